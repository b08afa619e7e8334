"""Memory: how much this process holds, and which models stay within the budget (least recently used leave first)."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Generic, TypeVar

from headrace.hop.process import memory as lean

_STATUS = Path("/proc/self/status")


def held_bytes() -> int:
    """Bytes of anonymous memory of this process (no pages of files and libraries); 0 if the system does not say.

    Freed memory is returned to the system first, so that it does not count. That takes some milliseconds.
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
    """An LRU budget: bytes by key, in order of use. A state machine. `budget`: bytes; None: no limit."""

    def __init__(self, budget: int | None) -> None:
        self._budget = budget
        self._bytes: dict[K, int] = {}
        self.used = 0

    def touch(self, key: K) -> None:
        if self._budget is not None and key in self._bytes:
            self._bytes[key] = self._bytes.pop(key)

    def add(self, key: K, size: int) -> list[K]:
        """Notes that `key` takes `size` bytes. Returns the keys to evict, never `key` itself.

        They still count until `remove` is called.
        """
        self.remove(key)
        self._bytes[key] = size
        self.used += size
        evicted: list[K] = []
        if self._budget is not None:
            left = self.used
            for other, taken in self._bytes.items():
                if left <= self._budget or other == key:
                    break
                evicted.append(other)
                left -= taken
        return evicted

    def remove(self, key: K) -> None:
        self.used -= self._bytes.pop(key, 0)
