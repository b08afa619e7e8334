"""The memory of rows: bounded, newest kept, absent entities forgotten; current for a time and until something changes."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from services.features.planning import EntityKey, Feature, ViewPlan
from services.features.ports import Ask
from services.features.remembering import Memory

KEYS = (EntityKey("k", DType.INT64, "k"),)
VIEW = ViewPlan("view", "view", KEYS, (Feature("f", "double_val"),), 0.0)
Batch = list[tuple[int, float | None]]
BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.none() | st.floats(0, 9)), unique_by=lambda kv: kv[0]),
    max_size=12,
)
PLENTY = 1 << 30


def keys(numbers: range | list[int]) -> list[bytes]:
    return [bytes([n]) for n in numbers]


def learn(memory: Memory, batch: Batch, epoch: int = 1, until: float = math.inf) -> None:
    rows = [None if v is None else (v, (b"v" * 9,)) for _, v in batch]
    memory.learn(Ask(VIEW, keys([k for k, _ in batch])), rows, epoch, until)


@given(BATCHES, st.integers(0, 6))
def test_it_holds_the_newest_rows_within_its_bound(batches: list[Batch], entries: int) -> None:
    memory = Memory(entries, PLENTY)
    expected: dict[int, float] = {}
    for batch in batches:
        learn(memory, batch)
        for key, value in batch:
            expected.pop(key, None)
            if value is not None:
                expected[key] = value
        expected = dict(list(expected.items())[-entries:] if entries else [])
        assert len(memory) == len(expected)
    found = memory.recall(VIEW, keys(range(10)))
    assert [row and row[0] for row in found] == [expected.get(k) for k in range(10)]


@given(BATCHES)
def test_its_size_is_that_of_what_it_holds(batches: list[Batch]) -> None:
    memory, one = Memory(100, PLENTY), Memory(1, PLENTY)
    learn(one, [(1, 1.0)])
    for batch in batches:
        learn(memory, batch)
        assert memory.size_bytes == len(memory) * one.size_bytes
    bounded = Memory(100, 3 * one.size_bytes)
    for batch in batches:
        learn(bounded, batch)
        assert bounded.size_bytes <= 3 * one.size_bytes


def test_rows_are_current_in_their_epoch_for_a_time_until_they_change() -> None:
    memory = Memory(10, PLENTY)
    learn(memory, [(1, 5.0), (2, 6.0)], epoch=3, until=10.0)

    def current(epoch: int, now: float) -> list[bool]:
        return [row is not None for row in memory.current(VIEW, keys([1, 2]), epoch, now)[0]]

    assert current(3, 9.9) == [True, True]
    assert current(3, 10.0) == [False, False]
    assert current(4, 9.9) == [False, False]
    memory.outdate(keys([1])[0])
    assert current(3, 9.9) == [False, True]
    assert [row and row[0] for row in memory.recall(VIEW, keys([1, 2]))] == [5.0, 6.0]


def test_that_an_entity_is_absent_is_known_for_a_time_and_pushes_nothing_out() -> None:
    memory = Memory(20, PLENTY)
    learn(memory, [(1, 1.0)], epoch=3, until=10.0)
    for absent in range(100, 200):
        learn(memory, [(absent, None)], epoch=3, until=10.0)
    asked = keys([1, 199, 198, 100, 2])
    assert memory.current(VIEW, asked, 3, 9.0) == ([(1.0, (b"v" * 9,)), None, None, None, None], [3, 4])
    assert memory.current(VIEW, asked, 3, 10.0)[1] == [0, 1, 2, 3, 4]
    assert memory.current(VIEW, asked, 4, 9.0)[1] == [0, 1, 2, 3, 4]
    memory.outdate(asked[1])
    learn(memory, [(198, 5.0)], epoch=3, until=10.0)
    assert memory.current(VIEW, asked[1:3], 3, 9.0) == ([None, (5.0, (b"v" * 9,))], [0])


def test_what_is_used_stays_longest() -> None:
    memory = Memory(2, PLENTY)
    learn(memory, [(1, 1.0), (2, 2.0)])
    memory.current(VIEW, keys([1]), 1, 0.0)
    learn(memory, [(3, 3.0)])
    assert [row and row[0] for row in memory.recall(VIEW, keys([1, 2, 3]))] == [1.0, None, 3.0]


def test_a_view_of_another_form_remembers_nothing_of_the_old_one() -> None:
    memory = Memory(10, PLENTY)
    learn(memory, [(1, 5.0)])
    other = ViewPlan("view", "view", KEYS, (Feature("g", "double_val"),), 0.0)
    assert memory.recall(other, keys([1])) == [None]
    assert [row and row[0] for row in memory.recall(VIEW, keys([1]))] == [5.0]
