"""Which numbers of a stream were received: a set of whole numbers as ascending, disjoint ranges. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Mask

Range = tuple[int, int]
"""First and last number."""


class Ranges:
    """A set of numbers from 1 on. What arrives in order takes no memory however much it is."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __len__(self) -> int:
        """How many numbers are in it."""
        return sum(last - first + 1 for first, last in self.ranges())

    def ranges(self) -> list[Range]:
        return list(zip(self._firsts, self._lasts, strict=True))

    def add(self, first: int, last: int) -> None:
        """Adds the numbers from `first` to `last`."""
        if last < first:
            return
        # Ranges that touch it become one with it.
        begin = bisect_left(self._lasts, first - 1)
        end = bisect_right(self._firsts, last + 1)
        if begin < end:
            first, last = min(first, self._firsts[begin]), max(last, self._lasts[end - 1])
        self._firsts[begin:end], self._lasts[begin:end] = [first], [last]

    def add_all(self, numbers: NDArray[np.int64]) -> None:
        """Adds ascending numbers."""
        for first, last in runs(numbers):
            self.add(first, last)

    def contains(self, numbers: NDArray[np.int64]) -> Mask:
        """bool (n,): which of the numbers are in it."""
        if not self._firsts:
            return np.zeros(len(numbers), bool)
        place = np.searchsorted(np.array(self._firsts), numbers, side="right") - 1
        return (place >= 0) & (numbers <= np.array(self._lasts)[np.maximum(place, 0)])

    def gaps(self, noted: int) -> list[Range]:
        """The numbers from 1 to `noted` that are not in it."""
        found, next_one = [], 1
        for first, last in self.ranges():
            if first > noted:
                break
            if first > next_one:
                found.append((next_one, first - 1))
            next_one = last + 1
        if next_one <= noted:
            found.append((next_one, noted))
        return found


def runs(numbers: NDArray[np.int64]) -> list[Range]:
    """Ascending numbers as ranges."""
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts = np.concatenate([numbers[:1], numbers[breaks + 1]])
    lasts = np.concatenate([numbers[breaks], numbers[-1:]])
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
