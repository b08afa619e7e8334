"""What the router counts of each arm, and how it is told until somebody has it; the units that chance divides among arms."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace.columns import Batch, Column, DType, RowError
from headrace.hop.errors import BLAME, Blame, Code, Reason
from headrace.releases import Arm, Assignment, Experiment, Guard, Release, Rollout, RolloutState
from headrace.ticks import ArmName, AssignedFigures, Tick, latency_bucket
from services.router.cache.run import CACHED
from services.router.ticks import counters, sticky_keys
from services.router.ticks.counters import NO_RELEASE, Counted, Counters, Part, ours
from tests.services.router.tick_rows import CALLERS, OURS, answer, count, deliver, part

LIVE = ArmName("flights", 0, "live")
VALUES = st.one_of(st.none(), st.floats(0, 1, width=32), st.floats(width=32))
ERRORS = st.sampled_from([None, None, OURS, CALLERS])
ROWS = st.lists(st.tuples(VALUES, ERRORS), min_size=1, max_size=8)


@pytest.mark.parametrize("reason", [*Reason.values()])
def test_whose_fault_a_row_is(reason: Reason) -> None:
    error = RowError(Code.FAILED_PRECONDITION, reason, "")
    assert ours(error) == (BLAME[reason] is not Blame.CALLER)
    assert ours(RowError(Code.UNAVAILABLE, reason, ""))


@settings(deadline=None)
@given(st.lists(st.tuples(ROWS, st.floats(0, 200)), max_size=6))
def test_counts_are_those_of_each_row(
    batches: list[tuple[list[tuple[float | None, RowError | None]], float]],
) -> None:
    counted = Counters()
    for rows, seconds in batches:
        errors = {i: error for i, (_, error) in enumerate(rows) if error}
        batch = answer([value for value, _ in rows], errors)
        counted.answered(NO_RELEASE, part(batch), batch, seconds)
    arms = counted.tick().arms
    if not batches:
        assert arms == {}
        return
    figures = arms[LIVE]
    every = [row for rows, _ in batches for row in rows]
    assert (figures.rows, figures.errors) == (len(every), sum(error is OURS for _, error in every))
    times = Counter(bucket for rows, s in batches for bucket in [latency_bucket(s)] * len(rows))
    assert figures.latency == tuple(times.get(i, 0) for i in range(len(figures.latency)))


def test_kept_answers_say_nothing_of_the_time_of_an_arm() -> None:
    how, counted = Counted(3, compares=True), Counters()
    for ages in ([-1, 5], [7, 0]):
        batch = answer([1.0, 2.0])
        kept = batch.with_columns([Column(CACHED, DType.INT64, np.array(ages))])
        counted.answered(how, part(batch), kept, 0.1)
    [figures] = counted.tick().arms.values()
    assert (figures.rows, sum(figures.latency)) == (4, 1)
    assert (figures.assigned.requests, sum(figures.assigned.answers)) == (2, 1)


def test_a_tick_holds_what_changed_since_the_last_that_was_received() -> None:
    counted = Counters()

    def arms(tick: Tick) -> dict[str, int]:
        return {name.arm: figures.rows for name, figures in tick.arms.items()}

    count(counted)
    count(counted, arm="candidate")
    lost = counted.tick()
    assert (arms(lost), lost.base) == ({"live": 1, "candidate": 1}, 0)
    second = counted.tick()
    assert (arms(second), second.base) == (arms(lost), 0)
    count(counted)  # while the second is on its way
    counted.received(second)
    third = counted.tick()
    assert (arms(third), third.base, third.sequence) == ({"live": 2}, 2, 3)
    counted.received(third)
    assert arms(counted.tick()) == {}
    counted.start_over()
    everything = counted.tick()
    assert (arms(everything), everything.base) == ({"live": 2, "candidate": 1}, 0)


def test_the_number_of_arms_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "MAX_ARMS", 5)
    counted = Counters()
    for release in range(20):
        count(counted, how=Counted(release))
        deliver(counted)
    counted.start_over()
    kept = {name.release for name in counted.tick().arms}
    assert len(kept) == 5
    assert 19 in kept


class Telling(RuleBasedStateMachine):
    """A receiver that restarts and a network that loses ticks and answers: in the end it knows every row."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = Counters()
        self.rows: Counter[str] = Counter()
        self.restart()

    @rule()
    def restart(self) -> None:
        self.sequence = 0
        self.known: dict[str, int] = {}

    @rule(arm=st.sampled_from(["live", "candidate"]), rows=st.integers(1, 3))
    def count(self, arm: str, rows: int) -> None:
        count(self.counters, [0.1] * rows, arm=arm)
        self.rows[arm] += rows

    @rule(fate=st.sampled_from(["arrives", "lost", "unanswered"]))
    def tell(self, fate: str) -> None:
        tick = self.counters.tick()
        if fate == "lost":
            return
        behind = tick.base > self.sequence
        if not behind:
            self.sequence = tick.sequence
        self.known |= {name.arm: figures.rows for name, figures in tick.arms.items()}
        if fate == "arrives":
            self.counters.received(tick)
            if behind:
                self.counters.start_over()

    @invariant()
    def nothing_is_known_that_was_not_counted(self) -> None:
        assert all(self.known[arm] <= self.rows[arm] for arm in self.known)

    def teardown(self) -> None:
        self.tell("arrives")
        self.tell("arrives")
        assert self.known == dict(self.rows)


TestTelling = Telling.TestCase
TestTelling.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


RELEASE = Counted(1, compares=True)
KEYED = Counted(1, compares=True, by="key", salt="s")


def keyed(
    keys: Sequence[str | None], bad: Sequence[int] = (), arm: str = "live", request: str = "r"
) -> tuple[Part, Batch]:
    """One row a key, and the answer; the rows at `bad` failed by a fault of ours."""
    batch = answer([0.1] * len(keys), dict.fromkeys(bad, OURS), request)
    return part(batch.with_columns([Column.of_text("key", keys)]), arm), batch


def count_keys(counted: Counters, *arguments: Any, how: Counted = KEYED) -> None:
    rows, batch = keyed(*arguments)
    counted.answered(how, rows, batch, 0.1)


def units(counted: Counters, arm: str = "live", release: int = 1) -> AssignedFigures:
    return keys_of(counted.tick().arms[ArmName("flights", release, arm)].assigned)


def keys_of(assigned: AssignedFigures) -> AssignedFigures:
    """Without the times of the answers."""
    return replace(assigned, answers=())


def test_keys_count_once_and_no_more_after_they_failed() -> None:
    counted = Counters()
    count_keys(counted, ["a", "b", "a", None, "c"], [1])
    assert units(counted) == AssignedFigures(requests=1, new_keys=3, fresh_rows=4, fresh_bad=1)
    # In another arm of another release, as long as the salt is the same: b is known to fail.
    count_keys(counted, ["b", "a", "d", "b"], [0, 1, 3], "candidate", how=replace(KEYED, release=2))
    assert units(counted, "candidate", 2) == AssignedFigures(new_keys=1, fresh_rows=2, fresh_bad=1)
    count_keys(counted, ["b"], [0], how=replace(KEYED, salt="t"))
    assert units(counted) == AssignedFigures(requests=1, new_keys=4, fresh_rows=5, fresh_bad=2)
    # Rows are counted all the same.
    canary = counted.tick().arms[ArmName("flights", 2, "candidate")]
    assert (canary.rows, canary.errors) == (4, 3)


def test_callers_faults_are_no_bad_keys() -> None:
    counted = Counters()
    rows, _ = keyed(["a"])
    counted.answered(KEYED, rows, answer([0.1], {0: CALLERS}), 0.1)
    assert units(counted) == AssignedFigures(new_keys=1, fresh_rows=1)


def test_a_full_set_of_keys_says_so_and_watches_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sticky_keys, "MAX_KEYS", 2)
    counted = Counters()
    count_keys(counted, ["a", "b"])
    assert units(counted) == AssignedFigures(new_keys=2, fresh_rows=2)
    count_keys(counted, ["c", "a", "c"], [0, 1])
    assert units(counted) == AssignedFigures(new_keys=2, fresh_rows=3, fresh_bad=1, saturated=True)


def test_the_number_of_sets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sticky_keys, "MAX_SETS", 2)
    sets = sticky_keys.KeySets()
    first = sets.of("p", "1")
    sets.of("p", "2")
    assert sets.of("p", "1") is first
    sets.of("p", "3")
    assert sets.of("p", "1") is first


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (Column.of_text("key", ["a", None]), [b"a", None]),
        (Column.of("key", np.array([7, 8])), [7, 8]),
        (Column.of("key", np.array([7, 0]), np.array([True, False])), [7, None]),
        (Column.of("other", np.array([7, 0])), [None, None]),
    ],
)
def test_sticky_values_of_every_kind_of_column(column: Column, expected: list[object]) -> None:
    batch = Batch.of(answer([0.1, 0.2]).rows, [column])
    assert sticky_keys.sticky_values(batch, "key") == expected
    assert sticky_keys.sticky_values(batch, "@tenant") == ["tenant", "tenant"]


def test_without_a_key_requests_are_counted() -> None:
    counted = Counters()
    for request, rows in (("a", 3), ("b", 1)):
        for how in (RELEASE, Counted(2)):
            count(counted, [0.1] * rows, how=how, request=request)
    arms = counted.tick().arms
    assert [(f.rows, keys_of(f.assigned)) for f in arms.values()] == [
        (4, AssignedFigures(2)),
        (4, AssignedFigures()),
    ]


def test_requests_of_rows_without_a_key_are_units() -> None:
    counted = Counters()
    rows, batch = keyed(["a", None, None], [0, 2])
    rows.batch.rows.request_ids[:] = ["r", "s", "t"]
    counted.answered(KEYED, rows, batch, 0.1)
    assert units(counted) == AssignedFigures(2, 1, new_keys=1, fresh_rows=1, fresh_bad=1)


def test_rows_that_a_rule_sent_are_counted_apart() -> None:
    counted = Counters()
    rows, batch = keyed(["a", "b", "c"], [0, 2])
    by_rule = replace(rows, by_rule=np.array([True, False, False]))
    counted.answered(KEYED, by_rule, batch, 0.1)
    tick = counted.tick()
    found = {name.by_rule: (f.rows, f.errors, keys_of(f.assigned)) for name, f in tick.arms.items()}
    assert found == {
        False: (2, 1, AssignedFigures(new_keys=2, fresh_rows=2, fresh_bad=1)),
        True: (1, 1, AssignedFigures()),
    }
    counted.failed(KEYED, replace(rows, by_rule=np.array([True] * 3)), 0.1)
    assert {name.by_rule: f.rows for name, f in counted.tick().arms.items()} == {False: 2, True: 4}


def release(**fields: Any) -> Release:
    arm = Arm(version=1, revision="0" * 64)
    return Release(pipeline="flights", number=5, arms={"live": arm, "candidate": arm}, **fields)


SPLIT = Assignment(weights={"live": 0.9, "candidate": 0.1}, by="tailnum", salt="s")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (release(), Counted(5)),
        (release(assign=SPLIT), Counted(5, True, "tailnum", "s")),
        (
            release(assign=Assignment(weights={"live": 1.0, "candidate": 0.0}, by="tailnum", salt="s")),
            Counted(5, salt="s"),
        ),
        (
            release(assign=SPLIT, experiment=Experiment(name="e", arms=("live", "candidate"), outcome="o")),
            Counted(5, True, "tailnum", "s", True),
        ),
        (release(rollout=Rollout(arm="candidate")), Counted(5, True)),
        (
            release(rollout=Rollout(arm="candidate", guards={"wrong": Guard()})),
            Counted(5, True, by_outcomes=True),
        ),
        (
            release(rollout=Rollout(arm="candidate", guards={"wrong": Guard()}, state=RolloutState.PROMOTED)),
            Counted(5),
        ),
    ],
    ids=["plain", "weights", "all live", "experiment", "rollout", "wrong", "ended"],
)
def test_a_release_says_what_is_counted(found: Release, expected: Counted) -> None:
    assert Counted.of(found) == expected


def test_a_request_is_bad_if_a_row_is_and_rows_answered_together_are_one_answer() -> None:
    counted = Counters()
    for request, errors, seconds in (
        ("a", {}, 0.01),
        ("b", {0: OURS, 2: OURS}, 3.0),
        ("c", {1: CALLERS}, 0.01),
    ):
        batch = answer([0.1] * 3, errors, request)
        counted.answered(RELEASE, part(batch), batch, seconds)
    counted.failed(RELEASE, part(answer([0.1] * 3, request="d")), 3.0)
    [figures] = counted.tick().arms.values()
    assert (figures.rows, figures.errors, sum(figures.latency)) == (12, 5, 12)
    assert (figures.assigned.requests, figures.assigned.bad_requests) == (4, 2)
    quick, slow = latency_bucket(0.01), latency_bucket(3.0)
    assert {i: n for i, n in enumerate(figures.assigned.answers) if n} == {quick: 2, slow: 2}
