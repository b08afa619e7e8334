"""The control of a home, for commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.remote import RemoteRecords
from headrace.cli.installation import services
from headrace.cli.installation.layout import Layout


@contextmanager
def records(layout: Layout) -> Iterator[RemoteRecords]:
    """What control has. Raises RecordsUnavailableError: it does not run here; the calls raise it, too."""
    sockets = layout.listed(services.CONTROL)
    if not any(sockets.glob("*.sock")):
        raise RecordsUnavailableError(
            Unavailable.UNREACHABLE, "control does not run here; start it: headrace up"
        )
    found = RemoteRecords(f"unix-dir:{sockets}")
    try:
        yield found
    finally:
        found.close()
