"""The route table deals out every row once, the few and the many alike, by the first rule that holds and then by weights;
over many keys it has the weights' shares, and nobody is moved who need not be."""

import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Batch, Column, Rows
from headrace.releases import Assignment, ReleaseError
from services.router.routes import table as module
from services.router.routes.assignment import Split
from tests.services.router.router_releases import batch, canary, release, single_requests, table, told

ARMS = ("live", "candidate", "third")
texts = st.sampled_from(["UA", "ü", "", "AA"])
conditions = st.one_of(
    st.tuples(st.just("carrier"), st.fixed_dictionaries({"any": st.lists(texts, min_size=1, max_size=3)})),
    st.tuples(st.just("@tenant"), st.fixed_dictionaries({"any": st.lists(texts, min_size=1, max_size=2)})),
    st.tuples(st.just("@attribute/beta"), st.just({"any": ["yes", "ü"]})),
    st.tuples(
        st.just("direct"), st.fixed_dictionaries({"any": st.lists(st.booleans(), min_size=1, max_size=2)})
    ),
    st.tuples(
        st.sampled_from(["seats", "distance", "serial", "@priority"]),
        st.one_of(
            st.fixed_dictionaries({"any": st.lists(st.integers(0, 12), min_size=1, max_size=12)}),
            st.fixed_dictionaries({"min": st.floats(-3, 12)}),
            st.fixed_dictionaries({"max": st.sampled_from([-1e300, -1.0, 0.1, 3.5, 9.0, 1e300])}),
            st.fixed_dictionaries({"min": st.floats(-2, 5), "max": st.floats(3, 12)}),
        ),
    ),
)
rules = st.lists(
    st.tuples(st.lists(conditions, min_size=1, max_size=2), st.sampled_from(ARMS)), max_size=4
).map(
    lambda found: [
        {"name": f"rule{i}", "when": dict(when), "arm": arm} for i, (when, arm) in enumerate(found)
    ]
)
weights = (
    st.lists(st.integers(0, 10), min_size=3, max_size=3)
    .filter(any)
    .map(lambda parts: {arm: part / sum(parts) for arm, part in zip(ARMS, parts, strict=True)})
)
# Not UTF-8 the last.
byte_strings = st.none() | st.sampled_from([b"UA", "ü".encode(), b"", b"AA", b"\xff\xfe"])
row = st.fixed_dictionaries(
    {
        "request": st.sampled_from(["r1", "r2", "r3"]),
        "tenant": texts,
        "priority": st.integers(1, 10),
        "carrier": byte_strings,
        "beta": st.none() | st.sampled_from([b"yes", "ü".encode(), b"\xff"]),
        "seats": st.none() | st.integers(-5, 15),
        "distance": st.none() | st.sampled_from([0.0, -0.0, 0.1, 3.5, 9.0, float("nan"), float("inf")]),
        "serial": st.none() | st.sampled_from([0, 1, 5, 2**64 - 1]),
        "direct": st.none() | st.booleans(),
    }
)
COUNT = 100_000


def numbers(name: str, rows: list[dict[str, Any]], dtype: Any) -> Column:
    values = [r[name] for r in rows]
    valid = np.array([v is not None for v in values], bool)
    return Column.of(name, np.array([v or 0 for v in values], dtype), None if valid.all() else valid)


def batch_of(rows: list[dict[str, Any]], *, attribute: bool) -> Batch:
    count = len(rows)
    whose = Rows(
        [r["request"] for r in rows],
        [r["tenant"] for r in rows],
        [r["priority"] for r in rows],
        [9.0] * count,
        [""] * count,
    )
    columns = [
        Column.of_bytes("carrier", [r["carrier"] for r in rows]),
        numbers("seats", rows, np.int32),
        numbers("distance", rows, np.float32),
        numbers("serial", rows, np.uint64),
        numbers("direct", rows, bool),
    ]
    if attribute:
        columns.append(Column.of_bytes("@attribute/beta", [r["beta"] for r in rows]))
    return batch(whose, *columns)


@given(
    rules,
    weights,
    st.sampled_from([None, "carrier", "seats", "distance", "serial", "direct", "@tenant"]),
    st.lists(row, max_size=20),
    st.booleans(),
)
def test_the_few_and_the_many_are_dealt_out_alike(
    found_rules: list[Any],
    found_weights: dict[str, float],
    by: str | None,
    rows: list[dict[str, Any]],
    attribute: bool,
) -> None:
    found = release(ARMS, rules=found_rules, assign={"weights": found_weights, "by": by, "salt": "s"})
    compiled, routes = table(found)
    whole = batch_of(rows, attribute=attribute)
    answers = []
    for few in (0, 100):
        with patch.object(module, "_FEW", few):
            answers.append(told(compiled.choose(routes, whole), len(rows)))
    assert answers[0] == answers[1]
    for i, one in enumerate(answers[0]):  # a row's arm does not depend on the other rows
        assert told(compiled.choose(routes, whole.slice(i, i + 1)), 1) == [one]
        assert found_weights[one[0]] > 0 or one[1]


def one_rule(when: dict[str, Any], *columns: Column, rows: Rows | None = None) -> list[str]:
    """The rule that takes each row, few and many."""
    compiled, routes = table(release(rules=[{"name": "r", "when": when, "arm": "candidate"}]))
    whole = batch(rows or single_requests(len(columns[0])), *columns)
    count = len(whole)
    with patch.object(module, "_FEW", 0):
        many = told(compiled.choose(routes, whole), count)
    assert many == told(compiled.choose(routes, whole), count)
    assert {(arm, rule) for arm, rule, _ in many} <= {("live", ""), ("candidate", "r")}
    return [rule for _, rule, _ in many]


def test_texts_are_compared_as_utf8_and_nulls_meet_nothing() -> None:
    carriers = Column.of_bytes("carrier", ["ü".encode(), b"\xfc", None, b""])
    assert one_rule({"carrier": {"any": ["ü"]}}, carriers) == ["r", "", "", ""]
    assert one_rule({"carrier": {"any": [""]}}, carriers) == ["", "", "", "r"]


def test_numbers_are_compared_as_the_column_holds_them() -> None:
    tenth = Column.of("distance", np.array([0.1, 0.2, np.nan], np.float32))
    assert one_rule({"distance": {"any": [0.1]}}, tenth) == ["r", "", ""]
    assert one_rule({"distance": {"max": 0.1}}, tenth) == ["r", "", ""]
    assert one_rule({"distance": {"min": 0.2}}, tenth) == ["", "r", ""]
    seats = Column.of("seats", np.array([-1, 0, 3], np.int32), np.array([True, False, True]))
    assert one_rule({"seats": {"min": -1.5, "max": 2.5}}, seats) == ["r", "", ""]
    assert one_rule({"seats": {"min": 1e12}}, seats) == ["", "", ""]
    assert one_rule({"seats": {"max": -1e12}}, seats) == ["", "", ""]
    largest = Column.of("serial", np.array([2**64 - 1, 2**63, 2**53 + 1], np.uint64))
    assert one_rule({"serial": {"any": [str(2**64 - 1)]}}, largest) == ["r", "", ""]
    assert one_rule({"serial": {"any": [2**53 + 1]}}, largest) == ["", "", "r"]
    assert one_rule({"serial": {"min": 2.0**63}}, largest) == ["r", "r", ""]
    assert one_rule({"direct": {"any": [True]}}, Column.of("direct", np.array([True, False]))) == ["r", ""]


def test_rules_read_tenant_priority_and_attributes() -> None:
    rows = Rows(["a", "b"], ["acme", "other"], [3, 7], [9.0] * 2, [""] * 2)
    beta = Column.of_text("@attribute/beta", ["yes", None])
    assert one_rule({"@tenant": {"any": ["acme"]}}, beta, rows=rows) == ["r", ""]
    assert one_rule({"@priority": {"min": 7}}, beta, rows=rows) == ["", "r"]
    assert one_rule({"@attribute/beta": {"any": ["yes"]}}, beta, rows=rows) == ["r", ""]
    assert one_rule({"@attribute/gamma": {"any": ["yes"]}}, beta, rows=rows) == ["", ""]
    both = {"@tenant": {"any": ["acme", "other"]}, "@priority": {"max": 3}}
    assert one_rule(both, beta, rows=rows) == ["r", ""]


def test_the_first_rule_that_holds_decides() -> None:
    first, second = (
        {"name": n, "when": {"seats": {"min": low}}, "arm": arm}
        for n, low, arm in (("large", 100, "candidate"), ("any", 0, "live"))
    )
    for count in (3, 30):
        seats = Column.of("seats", np.array([150, 50, -1] * (count // 3), np.int32))
        compiled, routes = table(release(rules=[first, second]))
        found = told(compiled.choose(routes, batch(single_requests(count), seats)), count)
        assert found[:3] == [("candidate", "large", False), ("live", "any", False), ("live", "", False)]
        assert found == found[:3] * (count // 3)


def test_a_batch_of_one_arm_is_not_taken_apart() -> None:
    compiled, routes = table(canary(0.0))
    for count in (0, 1, 100):
        [share] = compiled.choose(routes, batch(single_requests(count)))
        assert (share.rows, share.route.name) == (None, "live")
    alike = Column.of_bytes("carrier", [b"same"] * 100)
    compiled, routes = table(canary(0.5))
    [share] = compiled.choose(routes, batch(single_requests(100), alike))
    assert (share.rows, share.chosen) == (None, None)
    assert share.choices[0].sticky


def test_two_reasons_for_one_arm_are_one_share() -> None:
    rule = {"name": "r", "when": {"seats": {"min": 1}}, "arm": "live"}
    compiled, routes = table(canary(0.0, rules=[rule]))
    for count in (2, 20):
        seats = Column.of("seats", np.arange(count, dtype=np.int32) % 2)
        shares = compiled.choose(routes, batch(single_requests(count), seats))
        assert [share.rows for share in shares] == [None]
        assert told(shares, count) == [("live", "", False), ("live", "r", False)] * (count // 2)


def test_routes_may_come_in_any_order_and_none_may_be_absent() -> None:
    compiled, (live, candidate) = table(canary(1.0))
    [share] = compiled.choose((candidate, live), batch(single_requests(1)))
    assert share.route is candidate
    [again] = compiled.choose((live, candidate), batch(single_requests(1)))
    assert again.route is candidate
    with pytest.raises(ValueError, match="release 9 has no route for candidate"):
        compiled.choose((live,), batch(single_requests(1)))


def test_a_release_that_does_not_fit_is_not_compiled() -> None:
    with pytest.raises(
        ReleaseError, match=r"assign\.by: the pipeline has no input 'carier'; did you mean 'carrier'"
    ):
        table(canary(0.1, by="carier"))


def test_a_column_of_another_type_is_no_crash() -> None:
    """The stages refuse such a batch; the rules come before them."""
    rule = {"name": "r", "when": {"seats": {"min": 1}}, "arm": "candidate"}
    compiled, routes = table(release(rules=[rule]))
    for wrong in (Column.of_text("seats", ["a"] * 10), Column.of("seats", np.zeros((10, 2), np.int32))):
        for count in (1, 10):
            part = batch(single_requests(10), wrong).slice(0, count)
            assert told(compiled.choose(routes, part), count) == [("live", "", False)] * count


KEYS = batch(single_requests(COUNT), Column.of_text("carrier", [f"user-{i}" for i in range(COUNT)]))


def arms(assignment: Assignment, whole: Batch = KEYS) -> np.ndarray:
    return Split(assignment, ARMS).of_many(whole)[0]


def assigned(candidate: float, third: float = 0.0, salt: str = "s") -> Assignment:
    weights = {"live": 1 - candidate - third, "candidate": candidate, "third": third}
    return Assignment(weights=weights, by="carrier", salt=salt)


def within_bounds(count: int, of: int, share: float) -> bool:
    """Five standard deviations of the binomial."""
    return abs(count - share * of) <= 5 * math.sqrt(of * share * (1 - share))


def test_a_growing_weight_moves_nobody_back_and_shares_are_as_asked() -> None:
    before = np.zeros(COUNT, bool)
    for weight in (0.0, 0.01, 0.05, 0.25, 0.5, 0.95, 1.0):
        there = arms(assigned(weight)) == 1
        assert within_bounds(int(there.sum()), COUNT, weight)
        assert not (before & ~there).any()
        before = there
    assert before.all()


def test_the_coverage_of_one_arm_leaves_the_other_where_it_is() -> None:
    before = arms(assigned(0.05, 0.05))
    for candidate, third in ((0.2, 0.05), (0.4, 0.3), (0.5, 0.5)):
        after = arms(assigned(candidate, third))
        for arm, weight in ((1, candidate), (2, third)):
            assert within_bounds(int((after == arm).sum()), COUNT, weight)
            assert not ((before == arm) & (after != arm)).any()
        before = after


def test_salts_make_independent_assignments() -> None:
    one, other = arms(assigned(0.3)) == 1, arms(assigned(0.3, salt="other")) == 1
    assert within_bounds(int((one & other).sum()), COUNT, 0.09)


def test_what_everybody_gets_is_known() -> None:
    assert [Split(assigned(*w), ARMS).only for w in ((0.0,), (1.0,), (0.0, 1.0))] == [0, 1, 2]
    assert [Split(assigned(*w), ARMS).only for w in ((0.5,), (0.5, 0.5), (0.2, 0.3))] == [None] * 3


def test_a_point_is_the_hash_that_is_written_down() -> None:
    """After a change of the hash every key would have another arm."""
    found = arms(assigned(0.5), batch(single_requests(8), Column.of_text("carrier", list("abcdefgh"))))
    assert found.tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


def test_a_number_sticks_as_its_decimal_text_does() -> None:
    values = np.arange(-500, 500)
    texts = batch(single_requests(1000), Column.of_text("carrier", [str(v) for v in values]))
    expected = arms(assigned(0.5), texts).tolist()
    for name, dtype in (("seats", np.int32), ("serial", np.int64)):
        whole = batch(single_requests(1000), Column.of(name, values.astype(dtype)))
        assignment = Assignment(weights={"live": 0.5, "candidate": 0.5}, by=name, salt="s")
        assert arms(assignment, whole).tolist() == expected


def test_rows_without_a_key_are_drawn_by_request_and_say_so() -> None:
    rows = Rows([f"r{i // 5}" for i in range(5000)], ["t"] * 5000, [1] * 5000, [9.0] * 5000, [""] * 5000)
    carriers = Column.of_text("carrier", [None if i % 5 else "same" for i in range(5000)])
    compiled, routes = table(canary(0.3))
    found = told(compiled.choose(routes, batch(rows, carriers)), 5000)
    sticky = {arm for arm, _, by_key in found if by_key}
    assert [by_key for _, _, by_key in found] == [i % 5 == 0 for i in range(5000)]
    assert len(sticky) == 1
    per_request = [{arm for arm, _, by_key in found[i : i + 5] if not by_key} for i in range(0, 5000, 5)]
    assert {len(a) for a in per_request} == {1}
    assert within_bounds(sum(a == {"candidate"} for a in per_request), 1000, 0.3)


def test_requests_are_drawn_independently_of_keys() -> None:
    """Though the ids of requests may be the keys."""
    texts = [f"user-{i}" for i in range(COUNT)]
    rows = Rows(texts, ["t"] * COUNT, [1] * COUNT, [9.0] * COUNT, [""] * COUNT)
    whole = batch(rows, Column.of_text("carrier", texts))
    by_request = Assignment(weights={"live": 0.7, "candidate": 0.3}, salt="s")
    both = (arms(assigned(0.3), whole) == 1) & (arms(by_request, whole) == 1)
    assert within_bounds(int(both.sum()), COUNT, 0.09)


@pytest.mark.parametrize("count", [3, 30])
def test_without_a_column_to_stick_to_requests_are_drawn(count: int) -> None:
    compiled, routes = table(canary(0.5, by=None))
    found = told(compiled.choose(routes, batch(single_requests(count))), count)
    assert {by_key for _, _, by_key in found} == {False}


def test_nan_and_negative_zero_are_no_keys_of_their_own() -> None:
    distances = Column.of("distance", np.array([0.0, -0.0, np.nan] * 4, np.float32))
    compiled, routes = table(canary(0.5, by="distance"))
    for part in (batch(single_requests(12), distances), batch(single_requests(12), distances).slice(0, 3)):
        found = told(compiled.choose(routes, part), len(part))
        assert found[0] == found[1]
        assert [by_key for _, _, by_key in found[:3]] == [True, True, False]
