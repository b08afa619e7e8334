"""`headrace restart SERVICE`: without a failed request."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli import control, starting
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place

# Start, readiness and drain each have bounds of their own in the supervisor; this is beyond their sum.
_TIMEOUT_S = 300.0


def restart(
    service: Annotated[str, typer.Argument(help="Its name, as `headrace status` shows it.")],
    home: Home = DEFAULT_HOME,
) -> None:
    """Start a new process of a service, wait until it is ready, then let the old one finish and end."""
    layout = place(home)
    try:
        if not starting.running(layout):
            fail("headrace is not running here; start it: headrace up")
        before = starting.status(layout)["services"].get(service, {}).get("pid")
        after = control.ask(layout.control, {"do": "restart", "service": service}, _TIMEOUT_S)
    except control.ControlError as error:
        fail(str(error))
    out.print(f"{service} restarted: pid {before} → {after['pid']}")
