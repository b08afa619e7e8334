"""Assignment by weights over many keys: its shares, and that nobody is moved who need not be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headrace.columns import Batch, Column, Rows
from headrace.releases import Assignment
from services.router.routes.assignment import Split
from tests.services.router.router_releases import batch, canary, single_requests, table, told

COUNT = 100_000
ARMS = ("live", "candidate", "third")


def keys(count: int = COUNT) -> Batch:
    return batch(single_requests(count), Column.of_text("carrier", [f"user-{i}" for i in range(count)]))


KEYS = keys()


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


def test_few_keys_get_what_many_would() -> None:
    for assignment in (assigned(0.3, 0.5), assigned(0.01), assigned(0.0, 1.0)):
        split = Split(assignment, ARMS)
        for start in range(0, 20_000, 2000):
            part = KEYS.slice(start, start + 2000)
            many, sticky = split.of_many(part)
            assert split.of_few(part) == (many.tolist(), sticky.tolist())


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
