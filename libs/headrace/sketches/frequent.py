"""The most frequent of many values, by a bounded number of counters, after Space-Saving (Metwally, Agrawal & El Abbadi 2005).

A value that is counted appeared at most `most` times, and at least `most − error` times; one that is not, at most `least` times.
Summaries merge with these bounds kept (Cafaro, Pulimeno & Tempesta 2016). The smallest counters go when there are twice as many
as are kept, and not with each new value: that costs a tenth, and batches are exact until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Counted(NamedTuple):
    """At most `most` rows, at least `most − error`."""

    most: int
    error: int


class SpaceSaving:
    """Counts of texts: at most 2 × `size`. `least`: the most rows that a text may have that is not counted."""

    def __init__(self, size: int, counters: Mapping[str, Counted] | None = None, least: int = 0) -> None:
        self.size = size
        self.counters: dict[str, Counted] = dict(counters or {})
        self.least = least

    def update(self, counts: Mapping[str, int]) -> None:
        """Takes the exact counts of a batch."""
        counters, least = self.counters, self.least
        for text, count in counts.items():
            known = counters.get(text)
            counters[text] = (
                Counted(least + count, least) if known is None else Counted(known.most + count, known.error)
            )
        self._shrink()

    def merge(self, other: SpaceSaving) -> None:
        """Takes all that the other has counted."""
        mine, theirs = Counted(self.least, self.least), Counted(other.least, other.least)
        merged = {}
        for text in self.counters.keys() | other.counters.keys():
            a, b = self.counters.get(text, mine), other.counters.get(text, theirs)
            merged[text] = Counted(a.most + b.most, a.error + b.error)
        self.counters = merged
        self.least += other.least
        self._shrink()

    def top(self, count: int) -> list[tuple[str, Counted]]:
        """The most frequent, the first one first."""
        return _largest(self.counters.items())[:count]

    def _shrink(self) -> None:
        if len(self.counters) <= 2 * self.size:
            return
        ordered = _largest(self.counters.items())
        self.counters = dict(ordered[: self.size])
        self.least = max(self.least, ordered[self.size][1].most)


def _largest(items: Iterable[tuple[str, Counted]]) -> list[tuple[str, Counted]]:
    # The text decides between equal counts, so that the result does not depend on the order of arrival.
    return sorted(items, key=lambda item: (-item[1].most, item[0]))
