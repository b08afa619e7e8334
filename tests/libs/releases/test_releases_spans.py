"""Which points of [0, 1) each arm holds: its weight, from a fixed start, and nobody is moved back."""

import math
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.releases import Assignment
from headrace.releases.spans import LIVE, Span, placed


def shares(parts: list[int]) -> dict[str, float]:
    """Weights of the arms `live`, a, b, … in these proportions."""
    total = sum(parts)
    return {LIVE if i == 0 else "abcdef"[i - 1]: part / total for i, part in enumerate(parts)}


def reweighted(first: Assignment, weights: Mapping[str, float]) -> Assignment:
    """As changes do it: arms keep their starts, and a new arm gets one amid the widest room."""
    starts = {**first.starts, **placed(first.weights, first.starts)}
    return Assignment(weights=weights, starts={**starts, **placed(weights, starts)})


proportions = st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any)


def held(spans: list[Span], arm: str) -> float:
    return math.fsum(s.stop - s.start for s in spans if s.arm == arm)


def arm_at(spans: list[Span], point: float) -> str:
    return next((s.arm for s in spans if s.start <= point < s.stop), LIVE)


def moved(first: Assignment, second: Assignment, point: float) -> tuple[str, str] | None:
    """From which arm to which a point went; None: it stayed, or is too near an edge to say."""
    spans = first.spans(), second.spans()
    if any(abs(point - edge) < 1e-8 for s in (*spans[0], *spans[1]) for edge in (s.start, s.stop)):
        return None
    before, after = arm_at(spans[0], point), arm_at(spans[1], point)
    return None if before == after else (before, after)


def test_an_arm_that_comes_back_has_its_old_start() -> None:
    first = Assignment(weights={LIVE: 0.8, "a": 0.1, "z": 0.1})
    second = reweighted(reweighted(first, {LIVE: 1.0}), {LIVE: 0.8, "b": 0.2})
    assert second.spans()[0].start not in (0.0, 0.5)
    third = reweighted(second, {LIVE: 0.7, "b": 0.2, "z": 0.1})
    assert [s for s in third.spans() if s.arm != "b"] == [s for s in first.spans() if s.arm == "z"]
    # As automation writes weights: it leaves the rest of the assignment as it is.
    assert Assignment.model_validate(third.model_dump(mode="json") | {"weights": {LIVE: 1.0}}).spans() == []


@given(proportions, st.dictionaries(st.sampled_from("abcd"), st.floats(0, 0.999), max_size=4))
def test_each_arm_holds_its_weight_wherever_it_starts(parts: list[int], starts: dict[str, float]) -> None:
    weights = shares(parts)
    mine = {arm: at for arm, at in starts.items() if arm in weights}
    if len(set(mine.values())) < len(mine):
        return
    spans = Assignment(weights=weights, starts=mine).spans()
    for before, after in pairwise(spans):
        assert before.stop <= after.start
    assert all(0 <= s.start < s.stop <= 1 for s in spans)
    for arm, weight in weights.items():
        if arm != LIVE:
            assert held(spans, arm) == pytest.approx(weight, abs=1e-8)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.floats(0, 0.999999))
def test_with_two_arms_only_rows_of_live_move(a: int, b: int, more: int, point: float) -> None:
    """Whatever the weights are: the arms grow towards each other and never meet."""
    if a + b > 100:
        a, b = 100 - a, 100 - b
    first = Assignment(weights=shares([100 - a - b, a, b]))
    grown = min(a + more, 100 - b)
    second = reweighted(first, shares([100 - grown - b, grown, b]))
    assert moved(first, second, point) in (None, (LIVE, "a"))


@given(proportions, st.integers(0, 4), st.floats(0, 0.999999))
def test_within_their_rooms_arms_leave_each_other_alone(parts: list[int], which: int, point: float) -> None:
    """Arms at most half as large as their rooms: any of them may double, and only rows of `live` move."""
    count = max(len(parts) - 1, 1)
    small = {arm: w / (2 * count) for arm, w in shares(parts).items() if arm != LIVE}
    first = Assignment(weights={LIVE: 1 - math.fsum(small.values()), **small})
    if not small:
        return
    arm = sorted(small)[which % len(small)]
    larger = {**small, arm: 2 * small[arm]}
    second = reweighted(first, {LIVE: 1 - math.fsum(larger.values()), **larger})
    assert moved(first, second, point) in (None, (LIVE, arm))


def test_a_new_arm_moves_nobody_of_the_others() -> None:
    first = Assignment(weights={LIVE: 0.8, "m": 0.1, "z": 0.1})
    first = reweighted(first, first.weights)
    second = reweighted(first, {LIVE: 0.7, "a": 0.1, "m": 0.1, "z": 0.1})
    assert [s for s in second.spans() if s.arm != "a"] == first.spans()
    without = reweighted(second, {LIVE: 0.9, "a": 0.1})
    assert [s for s in without.spans() if s.arm == "a"] == [s for s in second.spans() if s.arm == "a"]


def test_all_for_one_leaves_no_hole() -> None:
    tenths = Assignment(weights={LIVE: 0.0, "a": 0.1 + 0.2, "b": 0.7}).spans()
    assert (tenths[0].start, tenths[-1].stop) == (0.0, 1.0)
    assert all(one.stop == other.start for one, other in pairwise(tenths))


@pytest.mark.parametrize(
    ("starts", "problem"),
    [
        ({LIVE: 0.1}, "starts.live: 'live' holds what is left"),
        ({"a": 1.0}, "starts.a: must be below 1"),
        ({"a": 0.5, "c": 0.5}, "starts: two arms have the same"),
    ],
)
def test_wrong_starts_are_refused(starts: dict[str, float], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Assignment(weights={LIVE: 0.8, "a": 0.1, "c": 0.1}, starts=starts)
