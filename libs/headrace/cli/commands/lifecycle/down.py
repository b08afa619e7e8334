"""`headrace down`: nothing is left running."""

from __future__ import annotations

from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.cli.supervision import daemon


def down(home: Home = DEFAULT_HOME) -> None:
    """Let the services finish what they have, then end them all. Nothing running: nothing to do."""
    try:
        stopped = daemon.stop(place(home))
    except daemon.StartError as error:
        fail(str(error))
    out.print("stopped" if stopped else "nothing was running")
