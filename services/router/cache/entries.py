"""The kept answers of one pipeline: by key, each for a time, together no more than a number of bytes. Pure: time is passed in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")
# What an entry takes besides its key and its value: two objects, three numbers, and its place in the table (tracemalloc).
ENTRY_BYTES = 330


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    size: int
    stored: float


class Entries(Generic[V]):
    """The least recently used go first. `now`: seconds of one monotonic clock, which the caller reads."""

    def __init__(self, ttl_s: float, kept_s: float, max_bytes: int) -> None:
        """`ttl_s`: up to this age an entry is fresh; `kept_s` ≥ `ttl_s`: up to this age it is there."""
        self._entries: OrderedDict[bytes, _Entry[V]] = OrderedDict()
        self.bytes = 0
        self._ttl_s, self._kept_s, self._max_bytes = ttl_s, kept_s, max_bytes

    def limit(self, ttl_s: float, kept_s: float, max_bytes: int) -> None:
        """Other limits from now on, as another revision of the document has them."""
        self._ttl_s, self._kept_s, self._max_bytes = ttl_s, kept_s, max_bytes
        self._shrink()

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, key: bytes, now: float) -> tuple[V, float] | None:
        """The value and its age in seconds, if it is at most `ttl_s` old."""
        return self._found(key, now, self._ttl_s)

    def stale(self, key: bytes, now: float) -> tuple[V, float] | None:
        """The value and its age in seconds, if it is there at all."""
        return self._found(key, now, self._kept_s)

    def put(self, key: bytes, value: V, size: int, stored: float) -> None:
        """Keeps a value. `size`: its bytes. `stored`: when it was computed. What alone is larger than the limit is not kept."""
        self._drop(key)
        size += len(key) + ENTRY_BYTES
        if size > self._max_bytes:
            return
        self._entries[key] = _Entry(value, size, stored)
        self.bytes += size
        self._shrink()

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self.bytes = 0

    def _found(self, key: bytes, now: float, limit_s: float) -> tuple[V, float] | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = now - entry.stored
        if age > self._kept_s:
            self._drop(key)
            return None
        if age > limit_s:
            return None
        self._entries.move_to_end(key)
        return entry.value, max(age, 0.0)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size

    def _shrink(self) -> None:
        while self.bytes > self._max_bytes:
            _, entry = self._entries.popitem(last=False)
            self.bytes -= entry.size
