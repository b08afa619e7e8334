"""Rows had as columns are the rows, judged, counted and packed as one by one; and never older ones."""

import math
from copy import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from headrace.columns import DType
from services.features.cache.cache import RowCache
from services.features.cache.column_table import TableRows, table_rows_of
from services.features.freshness.freshness import ViewResult, assess
from services.features.metrics import FeaturesMetrics
from services.features.plan.entity_keys import EntityKeys
from services.features.plan.plan import Feature, FreshnessRule, JoinKey, ServicePlan, ViewPlan
from services.features.reply import ReplyBuilder
from services.features.stores.online_store import KeyQuery, StoredRow
from tests.services.features import reference

pytest.importorskip("feast")
from feast.protos.feast.types.Value_pb2 import Value

PLENTY = 1 << 30
KEYS = (JoinKey("k", DType.INT64, "k"),)
FIELDS = ["double_val", "float_val"]
NOW = 1e6


def view_of(field: str, ttl_s: float, name: str = "v") -> ViewPlan:
    return ViewPlan(name, name, KEYS, (Feature(f"{name}a", field), Feature(f"{name}b", field)), ttl_s)


def raw(field: str, value: Any) -> bytes:
    found: bytes = Value(**{field: value}).SerializeToString()
    return found


def stored(field: str) -> st.SearchStrategy[bytes]:
    usual = st.floats(-1e6, 1e6, width=32).map(lambda v: raw(field, v))
    # What is there but NaN, or in a form that is not the usual, is left to the other way.
    odd = st.sampled_from([raw(field, math.nan), raw("int64_val", 3)])
    return st.one_of(usual, usual, st.just(b""), odd)


def a_row(field: str) -> st.SearchStrategy[StoredRow | None]:
    return st.none() | st.tuples(
        st.floats(-100, 1000).map(lambda age: NOW - age), st.tuples(stored(field), stored(field))
    )


@st.composite
def answers(draw: st.DrawFn) -> list[ViewResult]:
    """Of one batch, two views of one type."""
    field, rows = draw(st.sampled_from(FIELDS)), draw(st.integers(1, 12))
    found = []
    for name in ("v", "w"):
        known = draw(st.lists(a_row(field), min_size=1, max_size=rows))
        others = rows - len(known)
        place = draw(st.lists(st.integers(0, len(known)), min_size=others, max_size=others))
        place = draw(st.permutations([*range(len(known)), *place]))
        keys = EntityKeys([bytes([i]) for i in range(len(known))], None if others == 0 else list(place))
        limits = st.sampled_from([0.0, 1.0, 50.0, 500.0])
        rule = FreshnessRule(draw(limits), draw(limits))
        view = view_of(field, draw(limits), name)
        [allowed] = ServicePlan("s", (view,), KEYS, (2,), (), "r", rules={name: rule}).limits
        assert allowed == reference.limits(view, rule)
        found.append(ViewResult(view, keys, known, draw(st.booleans()), allowed))
    return found


def told(results: list[ViewResult]) -> list[str]:
    registry = CollectorRegistry()
    FeaturesMetrics(registry).served(results)
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def known_of(one: ViewResult) -> tuple[Any, ...]:
    each = zip(one.values(), one.sources, one.ages_us.tolist(), strict=True)
    return one.view, list(each), one.ahead_s


@settings(max_examples=300)
@given(answers())
def test_rows_as_columns_are_assessed_counted_and_packed_as_one_by_one(given_rows: list[ViewResult]) -> None:
    slow, quick = given_rows, list(map(copy, given_rows))
    for one in quick:
        # Where a view has values in another form, lists and tables are mixed in one reply.
        one.rows = table_rows_of(one.view, list(one.rows)) or one.rows
    assess(slow, NOW)
    assess(quick, NOW)
    assert [known_of(one) for one in slow] == [
        (f.view, reference.assessed(f, NOW), max(reference.ahead_s(f, NOW), 0.0)) for f in given_rows
    ]
    assert [known_of(one) for one in quick] == [known_of(one) for one in slow]
    plan = ServicePlan("s", tuple(one.view for one in slow), KEYS, (2, 1), (), "r")
    builder = ReplyBuilder(plan)
    assert builder.features(quick) == builder.features(slow)
    assert builder.ages(quick) == builder.ages(slow)
    assert builder.sources(quick) == builder.sources(slow)
    assert told(quick) == told(slow)


KEY = st.integers(0, 5).map(lambda n: bytes([n]))
SOME = st.lists(KEY, min_size=1, max_size=6, unique=True)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), SOME),
        st.tuples(st.just("ask"), SOME),
        st.tuples(st.just("change"), KEY),
        st.tuples(st.just("learn"), SOME),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 4.0])),
        st.tuples(st.just("epoch"), st.just(1)),
        st.tuples(st.just("other"), SOME),
    ),
    max_size=40,
)


@settings(max_examples=400)
@given(STEPS, st.integers(4, 30), st.data())
def test_a_memory_gives_as_columns_what_it_gives_as_rows(
    steps: list[tuple[str, Any]], entries: int, data: st.DataObject
) -> None:
    """Two memories live through the same; one of them is never asked for columns."""
    view, other = view_of("double_val", 0.0), view_of("double_val", 0.0, "w")
    quick, slow = RowCache(entries * 500), RowCache(entries * 500)
    epoch, now, version = 1, 0.0, 0.0
    for what, argument in steps:
        if what == "change":
            for memory in (quick, slow):
                memory.mark_outdated(argument)
        elif what == "wait":
            now += argument
        elif what == "epoch":
            epoch += argument
        elif what == "learn":
            # A read that began before this one's row was learnt.
            version += 1
            later = [(version, (raw("double_val", version), b""))] * len(argument)
            for memory in (quick, slow):
                memory.learn(KeyQuery(view, argument), later, epoch, now + 5.0)
        else:
            asked = view if what == "ask" else other
            # The same question twice: what the first has put into a table the second has from there.
            for _ in range(2):
                found, holes = quick.current(asked, argument, epoch, now, many=True)
                rows, missing = slow.current(asked, argument, epoch, now)
                assert (list(found), holes) == (rows, missing)
                assert (len(quick), quick.size_bytes) == (len(slow), slow.size_bytes)
            version += 1
            value = raw("double_val", version)
            absent = data.draw(st.booleans())
            learnt: list[StoredRow | None] = [None if absent else (version, (value, b""))] * len(holes)
            for memory in (quick, slow):
                memory.learn(KeyQuery(asked, [argument[i] for i in holes]), learnt, epoch, now + 5.0)


def test_what_was_found_twice_comes_from_a_table_until_it_changes() -> None:
    view, memory = view_of("double_val", 0.0), RowCache(PLENTY)
    keys = [bytes([n]) for n in range(10)]
    value = raw("double_val", 1.5)
    memory.learn(KeyQuery(view, keys), [(1.0, (value, b""))] * 9 + [None], 1, 5.0)
    kinds = [isinstance(memory.current(view, keys, 1, 0.0, many=True)[0], TableRows) for _ in range(3)]
    assert kinds == [False, True, True]
    memory.mark_outdated(keys[3])
    found, holes = memory.current(view, keys, 1, 0.0, many=True)
    assert (isinstance(found, TableRows), holes) == (False, [3])
    others = keys[:3] + keys[4:]
    assert isinstance(memory.current(view, others, 1, 4.9, many=True)[0], TableRows)
    assert memory.current(view, others, 1, 5.0, many=True)[1] == list(range(9))
    assert memory.current(view, others, 2, 4.9, many=True)[1] == list(range(9))


def test_what_expires_and_is_read_again_takes_no_more_room_than_what_is_there() -> None:
    memory, view = RowCache(PLENTY), view_of("double_val", 0.0)
    keys = [bytes([i]) for i in range(100)]
    taken = []
    for time in range(200):
        rows: list[StoredRow | None] = [
            (NOW + time, (raw("double_val", float(time)), raw("double_val", float(i)))) for i in range(100)
        ]
        memory.learn(KeyQuery(view, keys), rows, 0, time + 0.5)
        memory.current(view, keys, 0, float(time), True)
        found, holes = memory.current(view, keys, 0, float(time), True)
        assert isinstance(found, TableRows)
        assert not holes
        assert list(found) == rows
        taken.append((found, rows))
    assert memory.table_rows <= 2 * len(keys) + 256 + len(keys)
    # Those that were given out before are what they were.
    assert all(list(block) == rows for block, rows in taken)
