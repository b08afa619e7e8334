"""The parts of the cache: its table, compared with a plain dictionary that never forgets; rows as keys (no two share one)
and as kept answers (each comes back as it was)."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from headrace.columns import Column
from headrace.pipeline import ModelUse
from services.router.cache.clients import dump, load
from services.router.cache.entries import ENTRY_BYTES, Entries
from services.router.cache.rows import answers_of, columns_of, fields_of, row_keys

TTL, KEPT, MOST = 10.0, 30.0, 5 * (ENTRY_BYTES + 20)
KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g"])
PREFIX = b"p" * 32
MODELS = (ModelUse("s", "m", "1", "ff", "onnxruntime"),)
# Few values, so that equal rows and rows that look alike when put together are common.
BYTES = st.none() | st.sampled_from(
    [b"", b"\0", b"~", b"0:", b"1:~", b"3:abc", b"abc", b"\0" * 300, b"\0" * 299 + b"\1"]
)
ROW = st.tuples(
    st.sampled_from(["t", "t1", "1:t"]),
    st.none() | st.sampled_from([0, 1, 126, 49]),
    BYTES,
    BYTES,
    st.sampled_from([0.0, -0.0, 1.5]),
)
ROWS = st.lists(ROW, min_size=1, max_size=8)


class Table(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.entries: Entries[int] = Entries(TTL, KEPT, MOST)
        # Key → value, when it was stored, size.
        self.put_last: dict[bytes, tuple[int, float, int]] = {}
        self.used: list[bytes] = []
        self.now, self.count = 0.0, 0

    @rule(key=KEYS, size=st.integers(0, 60), age=st.sampled_from([0.0, 0.0, 5.0, 20.0]))
    def put(self, key: bytes, size: int, age: float) -> None:
        self.count += 1
        self.entries.put(key, self.count, size, self.now - age)
        self.put_last[key] = self.count, self.now - age, size
        self._use(key)

    @rule(key=KEYS)
    def fresh(self, key: bytes) -> None:
        self._compare(key, self.entries.fresh(key, self.now), TTL)

    @rule(key=KEYS)
    def stale(self, key: bytes) -> None:
        self._compare(key, self.entries.stale(key, self.now), KEPT)

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def _use(self, key: bytes) -> None:
        self.used = [k for k in self.used if k != key] + [key]

    def _compare(self, key: bytes, found: tuple[int, float] | None, limit: float) -> None:
        if found is not None:
            value, stored, _ = self.put_last[key]
            assert found == (value, self.now - stored)
            assert found[1] <= limit
            self._use(key)
        elif key in self.put_last and self.now - self.put_last[key][1] <= limit:
            # It went for lack of space: with what was used later, there was no room for it.
            later = [self.put_last[k][2] + 1 + ENTRY_BYTES for k in self.used[self.used.index(key) :]]
            assert sum(later) + 7 * 60 >= MOST - ENTRY_BYTES

    @invariant()
    def bounded(self) -> None:
        assert 0 <= self.entries.bytes <= MOST
        assert (self.entries.bytes == 0) == (len(self.entries) == 0)


def test_the_table_holds_what_was_put_last_while_there_is_room() -> None:
    run_state_machine_as_test(
        Table, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )


def test_what_is_larger_than_the_limit_is_not_kept_and_takes_nobodys_place() -> None:
    entries: Entries[str] = Entries(10, 10, 1000)
    entries.put(b"a", "a", 0, 0)
    entries.put(b"b", "b", 1000, 0)
    assert (entries.fresh(b"a", 0), entries.fresh(b"b", 0)) == (("a", 0), None)


def test_a_lower_limit_applies_at_once() -> None:
    entries: Entries[str] = Entries(10, 10, 10_000)
    for key in (b"a", b"b", b"c"):
        entries.put(key, "", 0, 0)
    entries.limit(1.0, 1.0, ENTRY_BYTES + 1)
    assert (len(entries), entries.fresh(b"c", 2.0)) == (1, None)
    assert entries.bytes == 0


def columns(rows: list[tuple[Any, ...]]) -> list[Column]:
    small = np.array([row[1] or 0 for row in rows], np.uint8)
    valid = np.array([row[1] is not None for row in rows])
    return [
        Column.of("small", small, None if valid.all() else valid),
        Column.of_bytes("first", [row[2] for row in rows]),
        Column.of_bytes("second", [row[3] for row in rows]),
        Column.of("number", np.array([[row[4], 1.0] for row in rows])),
    ]


def keys(rows: list[tuple[Any, ...]]) -> list[bytes]:
    return row_keys(PREFIX, [row[0] for row in rows], columns(rows))


@given(ROWS, ROWS)
def test_rows_share_a_key_if_and_only_if_they_are_the_same(one: list[Any], other: list[Any]) -> None:
    found = [*zip(one, keys(one), strict=True), *zip(other, keys(other), strict=True)]
    for row, key in found:
        for row2, key2 in found:
            assert (key == key2) == (repr(row) == repr(row2))
        assert len(key) < 320


def test_several_byte_strings_in_a_row_keep_their_ends() -> None:
    made = [Column.of_bytes("b", [b"a", b"bc", b"ab", b"c"], (2,))]
    first, second = row_keys(PREFIX, ["t", "t"], made)
    assert first != second


def same(one: Column, other: Column) -> bool:
    if (one.name, one.dtype, one.row_shape) != (other.name, other.dtype, other.row_shape):
        return False
    if one.is_valid().tolist() != other.is_valid().tolist():
        return False
    a, b = (
        [c.ragged.to_list(), None] if c.dtype.name == "BYTES" else [None, c.array[c.is_valid()].tolist()]
        for c in (one, other)
    )
    return a == b


@given(ROWS)
def test_answers_come_back_as_they_were_also_through_the_shared_store(rows: list[Any]) -> None:
    given_columns = [*columns(rows), Column.of_bytes("two", [b"a", b"bc"] * len(rows), (2,))]
    fields = fields_of(given_columns)
    answers = answers_of(given_columns, MODELS, fields)
    for found in (answers, [load(dump(answer)) for answer in answers]):
        made = columns_of([a for a in found if a is not None])
        assert all(map(same, made, given_columns))
        assert len(made) == len(given_columns)
        assert found[0] is not None
        assert found[0].models == MODELS


def test_a_declared_size_that_the_data_lacks_is_none() -> None:
    (answer,) = answers_of([Column.of("x", np.zeros(1))], MODELS, fields_of([Column.of("x", np.zeros(1))]))
    assert load(dump(answer)[:-1]) is None
    # A type of another size, and one that there is not.
    assert load(dump(answer).replace(b"\x10\x0c", b"\x10\x0b")) is None
    assert load(dump(answer).replace(b"\x10\x0c", b"\x10\x63")) is None
