"""The memory of rows: bounded, newest kept, absent entities forgotten; current for a time and until something changes."""

import math

from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from services.features.cache.cache import RowCache
from services.features.plan.plan import Feature, JoinKey, ViewPlan
from services.features.stores.online_store import KeyQuery

KEYS = (JoinKey("k", DType.INT64, "k"),)
VIEW = ViewPlan("view", "view", KEYS, (Feature("f", "double_val"),), 0.0)
Batch = list[tuple[int, float | None]]
BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.none() | st.floats(0, 9)), unique_by=lambda kv: kv[0]),
    max_size=12,
)
PLENTY = 1 << 30
# What a row of VIEW takes, by estimate.
ROW_BYTES = 445


def keys(numbers: range | list[int]) -> list[bytes]:
    return [bytes([n]) for n in numbers]


def learn(memory: RowCache, batch: Batch, epoch: int = 1, until: float = math.inf) -> None:
    rows = [None if v is None else (v, (b"v" * 9,)) for _, v in batch]
    memory.learn(KeyQuery(VIEW, keys([k for k, _ in batch])), rows, epoch, until)


@given(BATCHES, st.integers(0, 24))
def test_it_holds_the_newest_rows_within_its_bound(batches: list[Batch], entries: int) -> None:
    memory = RowCache(entries * ROW_BYTES)
    newest: dict[int, float | None] = {}
    largest = 0
    for batch in batches:
        learn(memory, batch)
        largest = max(largest, len(batch))
        for key, value in batch:
            newest.pop(key, None)
            newest[key] = value
        assert len(memory) <= entries
        present = {key: value for key, value in newest.items() if value is not None}
        found = memory.recall(VIEW, keys(range(10)))
        held = {key: row[0] for key, row in enumerate(found) if row is not None}
        # Never an earlier value, and none of an entity that is gone.
        assert held.items() <= present.items()
        # One that comes at once with as many as there is room for pushes itself out sooner.
        certain = max(entries // 2 - largest, 0)
        assert set(list(reversed(present))[:certain]) <= held.keys()


@given(BATCHES)
def test_its_size_is_that_of_what_it_holds(batches: list[Batch]) -> None:
    memory, one = RowCache(100 * ROW_BYTES), RowCache(ROW_BYTES)
    learn(one, [(1, 1.0)])
    for batch in batches:
        learn(memory, batch)
        assert memory.size_bytes == len(memory) * one.size_bytes
    bounded = RowCache(3 * one.size_bytes)
    for batch in batches:
        learn(bounded, batch)
        assert bounded.size_bytes <= 3 * one.size_bytes


def test_rows_are_current_in_their_epoch_for_a_time_until_they_change() -> None:
    memory = RowCache(PLENTY)
    learn(memory, [(1, 5.0), (2, 6.0)], epoch=3, until=10.0)

    def current(epoch: int, now: float) -> list[bool]:
        return [row is not None for row in memory.current(VIEW, keys([1, 2]), epoch, now)[0]]

    assert current(3, 9.9) == [True, True]
    assert current(3, 10.0) == [False, False]
    assert current(4, 9.9) == [False, False]
    memory.mark_outdated(keys([1])[0])
    assert current(3, 9.9) == [False, True]
    assert [row and row[0] for row in memory.recall(VIEW, keys([1, 2]))] == [5.0, 6.0]


def test_that_an_entity_is_absent_is_known_for_a_time_and_pushes_nothing_out() -> None:
    memory = RowCache(20 * ROW_BYTES)
    learn(memory, [(1, 1.0)], epoch=3, until=10.0)
    for absent in range(100, 200):
        learn(memory, [(absent, None)], epoch=3, until=10.0)
    asked = keys([1, 199, 198, 100, 2])
    assert memory.current(VIEW, asked, 3, 9.0) == ([(1.0, (b"v" * 9,)), None, None, None, None], [3, 4])
    assert memory.current(VIEW, asked, 3, 10.0)[1] == [0, 1, 2, 3, 4]
    assert memory.current(VIEW, asked, 4, 9.0)[1] == [0, 1, 2, 3, 4]
    memory.mark_outdated(asked[1])
    learn(memory, [(198, 5.0)], epoch=3, until=10.0)
    assert memory.current(VIEW, asked[1:3], 3, 9.0) == ([None, (5.0, (b"v" * 9,))], [0])


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60), st.integers(1, 60))
def test_what_is_not_there_is_bounded_by_bytes_too(asked: list[tuple[int, bool]], size: int) -> None:
    memory = RowCache(10 * 1000)
    for key, changed in asked:
        long = key.to_bytes(2, "big") * size
        memory.learn(KeyQuery(VIEW, [long]), [None], 3, math.inf)
        assert memory.current(VIEW, [long], 3, 0.0) == ([None], [])
        if changed:
            memory.mark_outdated(long)
        assert memory.absent_bytes <= 1000
    # Whatever is forgotten is no longer counted.
    for key in range(301):
        memory.mark_outdated(key.to_bytes(2, "big") * size)
    assert memory.absent_bytes == 0


def test_what_is_used_stays_longest() -> None:
    memory = RowCache(20 * ROW_BYTES)
    for key in range(200):
        learn(memory, [(key, float(key))])
        assert memory.current(VIEW, keys([0]), 1, 0.0) == ([(0.0, (b"v" * 9,))], [])
    found = [row and row[0] for row in memory.recall(VIEW, keys(range(200)))]
    assert [key for key, value in enumerate(found) if value is not None][:1] == [0]
    # Of the others those that came last.
    assert found[-9:] == [float(key) for key in range(191, 200)]
    assert set(found[1:180]) == {None}


def test_texts_count_by_their_length() -> None:
    view = ViewPlan("view", "view", KEYS, (Feature("f", "string_val"),), 0.0)
    memory = RowCache(100_000)
    for size in (10, 20_000, 10, 20_000):
        memory.learn(KeyQuery(view, keys([1])), [(1.0, (b"t" * size,))], 1, math.inf)
        assert size < memory.size_bytes < size + 1000
    for key in range(2, 50):
        memory.learn(KeyQuery(view, keys([key])), [(1.0, (b"t" * 20_000,))], 1, math.inf)
        assert memory.size_bytes <= 100_000


def test_a_view_of_another_form_remembers_nothing_of_the_old_one() -> None:
    memory = RowCache(PLENTY)
    learn(memory, [(1, 5.0)])
    other = ViewPlan("view", "view", KEYS, (Feature("g", "double_val"),), 0.0)
    assert memory.recall(other, keys([1])) == [None]
    assert [row and row[0] for row in memory.recall(VIEW, keys([1]))] == [5.0]
