"""Partition by key: consistent hash with bounded load. A pure state machine; time is passed in.

A key belongs to the first member after its point on a ring (Karger et al. 1997), so only the keys of a lost member move. A member
that has `load_factor` × the mean passes keys on to the next one (Mirrokni, Thorup, Zadimoghaddam 2018). A hot key, as such a
key alone can fill a member, is passed on from the mean itself: it is spread, and the other keys of its member stay.
Load is the rows of the last seconds, older ones counting exponentially less.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from hashlib import blake2b

# More points make the members' parts of the ring more equal: with so many they differ by about a tenth.
_POINTS = 128
# Rows are counted by so many classes of keys. A class holds a thousandth of the cold keys, which is little beside one hot key.
_CLASSES = 1024
# A row counts half after so many seconds.
_HALF_LIFE_S = 5.0
# A key is hot if it has this share of what a member has in the mean.
_HOT = 0.5
# Up to so many recent rows a member is never too full: so few are no load, and their keys had better stay.
_FLOOR = 16
# Instead of making what is old smaller, what is new is counted as more, until it is this much.
_MOST = 1e100


class KeyPartition:
    """Deals rows to members by their keys."""

    def __init__(self, load_factor: float) -> None:
        self._factor = load_factor
        self._members: tuple[str, ...] = ()
        self._points: list[int] = []
        # The member of each point, by its place in `_members`.
        self._owners: list[int] = []
        self._loads: list[float] = []
        self._classes = [0.0] * _CLASSES
        self._total = 0.0
        self._unit = 1.0
        self._at: float | None = None

    def update(self, members: Iterable[str]) -> None:
        """Deals to these members from now on. Those that stay keep their load."""
        wanted = tuple(sorted(set(members)))
        if wanted == self._members:
            return
        loads = dict(zip(self._members, self._loads, strict=True))
        ring = sorted((point, i) for i, member in enumerate(wanted) for point in _points(member))
        self._members = wanted
        self._points = [point for point, _ in ring]
        self._owners = [owner for _, owner in ring]
        self._loads = [loads.get(member, 0.0) for member in wanted]
        self._total = sum(self._loads)

    def home(self, key: int) -> str:
        """The member that a key belongs to. `key`: a hash of 64 bits. Raises IndexError if there is no member."""
        return self._members[self._owners[self._place(key)]]

    def assign(self, keys: Sequence[int], now: float) -> list[str]:
        """A member for each row, by its key (a hash of 64 bits). `now`: seconds. Raises IndexError if there is no member."""
        if not self._members:
            raise IndexError("there is no member to deal to")
        self._age(now)
        return [self._members[self._one(key)] for key in keys]

    def _one(self, key: int) -> int:
        loads, unit, count = self._loads, self._unit, len(self._members)
        self._total += unit
        kind = key % _CLASSES
        self._classes[kind] += unit
        mean, floor = self._total / count, _FLOOR * unit
        hot = self._classes[kind] > _HOT * max(mean, floor)
        most = max(mean if hot else mean * self._factor, floor) - unit
        place = self._place(key)
        chosen = self._owners[place]
        if loads[chosen] > most:
            chosen = self._next(place, most)
        loads[chosen] += unit
        return chosen

    def _place(self, key: int) -> int:
        place = bisect(self._points, key)
        return place if place < len(self._points) else 0

    def _next(self, place: int, most: float) -> int:
        """The first member after a place on the ring whose load is at most `most`, else the one with the least."""
        full: set[int] = set()
        while len(full) < len(self._members):
            owner = self._owners[place]
            if self._loads[owner] <= most:
                return owner
            full.add(owner)
            place = (place + 1) % len(self._owners)
        return min(full, key=self._loads.__getitem__)

    def _age(self, now: float) -> None:
        passed = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._at = now
        if passed > 100 * _HALF_LIFE_S:
            self._scale(0.0)
            return
        self._unit *= 2.0 ** (passed / _HALF_LIFE_S)
        if self._unit > _MOST:
            self._scale(1.0 / self._unit)

    def _scale(self, by: float) -> None:
        self._loads = [load * by for load in self._loads]
        self._classes = [count * by for count in self._classes]
        self._total = sum(self._loads)
        self._unit = 1.0


def _points(member: str) -> Iterable[int]:
    for i in range(_POINTS):
        yield int.from_bytes(blake2b(f"{i} {member}".encode(), digest_size=8).digest(), "big")
