"""The memory of last-known rows: bounded, newest kept, absent entities forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from services.features.planning import EntityKey, Feature, ViewPlan
from services.features.ports import Key, StoredRow
from services.features.remembering import Memory

VIEW = ViewPlan("view", (EntityKey("k", DType.INT64),), (Feature("f", DType.FLOAT64),), 0.0, None)
Batch = list[tuple[int, float | None]]
BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.none() | st.floats(0, 9)), unique_by=lambda kv: kv[0]),
    max_size=12,
)


def learn(memory: Memory, batch: Batch) -> None:
    keys: list[Key] = [(k,) for k, _ in batch]
    rows: list[StoredRow | None] = [None if v is None else (v, (v,)) for _, v in batch]
    memory.learn(VIEW, keys, rows)


@given(BATCHES, st.integers(0, 6))
def test_it_holds_the_newest_rows_within_its_bound(batches: list[Batch], entries: int) -> None:
    memory = Memory(entries)
    expected: dict[int, float] = {}
    for batch in batches:
        learn(memory, batch)
        for key, value in batch:
            expected.pop(key, None)
            if value is not None:
                expected[key] = value
        expected = dict(list(expected.items())[-entries:] if entries else [])
        assert len(memory) == len(expected)
    found = memory.recall(VIEW, [(k,) for k in range(10)])
    assert [row and row[0] for row in found] == [expected.get(k) for k in range(10)]


def test_a_view_of_another_form_remembers_nothing_of_the_old_one() -> None:
    memory = Memory(10)
    learn(memory, [(1, 5.0)])
    other = ViewPlan("view", VIEW.keys, (Feature("g", DType.FLOAT64),), 0.0, None)
    assert memory.recall(other, [(1,)]) == [None]
    assert memory.recall(VIEW, [(1,)]) == [(5.0, (5.0,))]
