"""Ranges are a set of numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.events.manifest.ranges import Ranges, runs

RANGE = st.tuples(st.integers(1, 60), st.integers(0, 8)).map(lambda t: (t[0], t[0] + t[1]))


@given(st.lists(RANGE, max_size=20), st.integers(0, 80))
def test_it_is_the_set_of_all_that_was_added(given_ranges: list[tuple[int, int]], noted: int) -> None:
    ranges, numbers = Ranges(given_ranges), set[int]()
    for first, last in given_ranges:
        numbers |= set(range(first, last + 1))
    every = np.arange(1, 81)
    assert ranges.contains(every).tolist() == [n in numbers for n in every.tolist()]
    assert len(ranges) == len(numbers)
    # As few ranges as can be: they neither overlap nor touch.
    bounds = [bound for r in ranges.ranges() for bound in r]
    assert bounds == sorted(bounds)
    assert ranges.ranges() == runs(np.array(sorted(numbers), np.int64))
    missing = {n for first, last in ranges.gaps(noted) for n in range(first, last + 1)}
    assert missing == set(range(1, noted + 1)) - numbers


def test_what_comes_in_order_is_one_range() -> None:
    ranges = Ranges()
    for i in range(1, 1000, 10):
        ranges.add_all(np.arange(i, i + 10))
    assert ranges.ranges() == [(1, 1000)]
