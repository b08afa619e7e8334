"""What the commands of tenants and keys ask: the control of this home, or the one that its settings name."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.access.records import AccessError, By
from headrace.access.specs import SCOPES, Scope, check_scope
from headrace.api.control.v1.resources_pb2 import Watcher
from headrace.catalog.access import Position
from headrace.catalog.errors import RecordsError
from headrace.catalog.remote import RemoteRecords
from headrace.cli.console import fail, place
from headrace.cli.installation import control_place, services

# Doors that follow have a change within a second; one that ended is forgotten after some minutes.
_PATIENCE_S, _AGAIN_S = 10.0, 0.05


@contextmanager
def records(home: Path) -> Iterator[RemoteRecords]:
    """What control has. Ends the command with a sentence for what it refuses, or if it can't be asked."""
    try:
        with control_place.records(place(home)) as found:
            yield found
    except (AccessError, RecordsError) as error:
        fail(str(error))


def by() -> By:
    """Whoever typed the command."""
    return By(getpass.getuser())


def read_scopes(words: list[str]) -> tuple[Scope, ...]:
    """The scopes of those names, in their order. Ends the command with a message for a name that is none."""
    try:
        found = {check_scope(word) for word in words}
    except ValueError as error:
        fail(str(error))
    return (*(s for s in SCOPES if s in found), *sorted(found.difference(SCOPES)))


def late_doors(asked: RemoteRecords, position: Position) -> list[str]:
    """Waits until every door has what was live at `position`. Returns those that may not, and why. Raises RecordsError."""
    until = time.monotonic() + _PATIENCE_S
    while (late := _late(asked.watchers(), position)) and time.monotonic() < until:
        time.sleep(_AGAIN_S)
    return late


def _late(watchers: Iterable[Watcher], position: Position) -> list[str]:
    return [
        f"{door.watcher} ({'it follows another history' if door.diverged else f'last heard of {door.age_s:.0f} s ago'})"
        for door in watchers
        if door.service == services.INGRESS
        # One that has nothing yet lets nobody in.
        and door.HasField("have")
        and (door.diverged or (door.have.epoch, door.have.number) < (position.epoch, position.number))
    ]
