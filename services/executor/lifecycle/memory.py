"""How much memory this process holds."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Generic, TypeVar

from headrace.hop.process import memory as lean

_STATUS = Path("/proc/self/status")


def held_bytes() -> int:
    """Bytes of its own, without the pages of files and libraries; 0 where the system does not tell.

    What was freed goes back to the system first: it is nobody's. That takes some milliseconds.
    """
    lean.give_back()
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


K = TypeVar("K", bound=Hashable)


class MemoryBudget(Generic[K]):
    """Bytes held by key, in order of use. `budget`: bytes; None: no bound."""

    def __init__(self, budget: int | None) -> None:
        self._budget = budget
        self._held: dict[K, int] = {}
        self.used = 0
        """Bytes that are held."""

    def touch(self, key: K) -> None:
        """It was used just now."""
        if self._budget is not None and key in self._held:
            self._held[key] = self._held.pop(key)

    def enter(self, key: K, size: int) -> list[K]:
        """It is in memory now, with that many bytes. Returns who must leave; never the key itself."""
        self.leave(key)
        self._held[key] = size
        self.used += size
        leaving: list[K] = []
        if self._budget is not None:
            left = self.used
            for other, held in self._held.items():
                if left <= self._budget or other == key:
                    break
                leaving.append(other)
                left -= held
        return leaving

    def leave(self, key: K) -> None:
        """It is in memory no more."""
        self.used -= self._held.pop(key, 0)
