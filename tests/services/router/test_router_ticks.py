"""What the router counts of each arm, and how it is told until somebody has it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace.columns import Batch, Column, DType, RowError
from headrace.hop.errors import BLAME, Blame, Code, Reason
from headrace.ticks import ArmName, Tick, latency_bucket
from headrace.ticks.messages import read_exposures, write_exposures
from services.router.cache.run import CACHED
from services.router.ticks import counters
from services.router.ticks.counters import NO_RELEASE, Counted, Counters, ours
from services.router.ticks.sticky_keys import key_hash
from tests.services.router.tick_rows import CALLERS, OURS, answer, count, deliver, exposure_lane, part

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


def test_rows_without_an_answer_are_errors() -> None:
    counted = Counters()
    counted.failed(NO_RELEASE, part(answer([1.0, 2.0])), 0.1)
    figures = counted.tick().arms[LIVE]
    assert (figures.rows, figures.errors, sum(figures.latency)) == (2, 2, 2)


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


def test_exposures_name_the_row_of_its_request_the_arm_and_the_labels() -> None:
    lane = exposure_lane()
    counted = Counters(lane)
    how = Counted(4, compares=True, by="key", salt="s", exposes=True)
    one, other = answer([0.1, 0.9, None], request="one"), answer([0.6], {0: OURS}, request="other")
    ids = one.rows.request_ids + other.rows.request_ids
    whole = Batch.of(one.rows, [])
    whole.rows.request_ids = ids
    whole.rows.tenants = ["tenant"] * len(ids)
    positions = np.array([1, 3])
    taken = answer([0.9, 0.6], {1: OURS})
    taken.rows.request_ids = ["one", "other"]
    sent = taken.with_columns([Column.of_text("key", ["ann", None])])
    counted.answered(how, part(sent, "candidate", whole, positions), taken, 0.1)
    [exposed] = lane.drain()
    found = [(e.arm, e.request_id, e.row, e.key, dict(e.labels)) for e in exposed]
    arm = ArmName("flights", 4, "candidate")
    keyed = arm, "one", 1, key_hash(b"ann"), {"late": 1.0, "code": 0.0}
    assert found == [keyed, (arm, "other", 0, None, {})]


def test_exposures_without_keys_and_with_nulls() -> None:
    lane = exposure_lane()
    count(Counters(lane), [0.9, None], how=Counted(4, exposes=True))
    [[first, second]] = lane.drain()
    assert (first.key, first.row, second.row) == (None, 0, 1)
    assert read_exposures(write_exposures([first, second])) == [first, second]


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
