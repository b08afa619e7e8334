"""Segments that stay where they are, as the key that they are sealed with is not here. They are tried again, until it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from services.monitoring.ports import Log

_AGAIN_S = 10.0
# Tried at once: each may take a call of the key management.
_MOST = 32


class LockedMeter(Protocol):
    """Told how many there are."""

    def locked(self, count: int) -> None: ...


class LockedSegments:
    """`clock`: monotonic seconds. For one thread."""

    def __init__(self, meter: LockedMeter, clock: Callable[[], float], log: Log) -> None:
        self._meter = meter
        self._clock = clock
        self._log = log
        # In the order in which they are tried.
        self._names: dict[str, None] = {}
        self._again = 0.0

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._names)

    def add(self, name: str, why: str) -> None:
        """One can't be opened; the log has it once."""
        if name not in self._names:
            if not self._names:
                self._again = self._clock() + _AGAIN_S
            self._log.error(
                "a segment of events stays where it is until its key is here", segment=name, error=why
            )
        # Behind the others, so that each has its turn.
        self._names.pop(name, None)
        self._names[name] = None
        self._meter.locked(len(self._names))

    def opened(self, name: str) -> None:
        """It can be opened again."""
        if name in self._names:
            self.gone(name)
            self._log.info("the key of a segment of events is here again", segment=name)

    def gone(self, name: str) -> None:
        """It is not there any more, or was set aside."""
        self._names.pop(name, None)
        self._meter.locked(len(self._names))

    def due(self) -> list[str]:
        """Those that are tried now, the longest untried first."""
        now = self._clock()
        if not self._names or now < self._again:
            return []
        self._again = now + _AGAIN_S
        return list(self._names)[:_MOST]
