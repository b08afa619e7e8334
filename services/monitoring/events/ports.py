"""What takes part in the reception of events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from headrace.columns import Column
from headrace.events import EventGroup, GroupHeader


class EventObserver(Protocol):
    """Sees each batch of events that was received, once. It runs in the event loop: it must be quick, and must not wait."""

    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        """Events of one arm of one revision. `columns`: inputs, feature values and outputs by name (masked inputs hold hashes;
        outputs of rows that failed are null), and those that every event has (`headrace.events`: `@code`, `@cached` …).
        `now`: seconds since 1970. What it raises is logged and counted."""
        ...


@runtime_checkable
class GroupObserver(Protocol):
    """As `EventObserver`, with tenants and request ids."""

    def observe_group(self, group: EventGroup, now: float) -> None:
        """Events of one arm of one revision; see `EventObserver.observe`."""
        ...
