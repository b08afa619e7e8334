"""The scheduler's promises, over arbitrary histories of calls, runs and time."""

import math
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.executor.scheduling.run_time import RunTimes
from services.executor.scheduling.scheduler import DroppedRows, DropReason, Limits, ScheduledRun, Scheduler

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-2, 60), st.sampled_from("ABC")), min_size=1, max_size=12
)
MILLI = 0.001
ROW_BYTES = 100


class Histories(RuleBasedStateMachine):
    """Offers, runs, failures, withdrawals and time in any order; every row is accounted for at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = self.made()
        self.scheduler: Scheduler[int] = Scheduler(self.limits)
        self.now = 1000.0
        self.calls = 0
        # (call, row) → (priority, deadline, tenant) of what waits, as a naive model of the queue.
        self.waiting: dict[tuple[int, int], tuple[int, float, str]] = {}
        self.running: list[ScheduledRun[int]] = []
        # Runs of an engine that was given up; they may still come back.
        self.orphans: list[ScheduledRun[int]] = []
        self.ended: Counter[tuple[int, int]] = Counter()
        self.offered = 0

    def made(self) -> Limits:
        return Limits(max_rows=8, max_queue_rows=20, instances=2)

    @rule(rows=ROWS, start=st.integers(0, 3))
    def offer(self, rows: list[tuple[int, int, str]], start: int) -> None:
        self.calls += 1
        positions = list(range(start, start + len(rows)))
        deadlines = [self.now + ms * MILLI for _, ms, _ in rows]
        for position, (priority, _, tenant), deadline in zip(positions, rows, deadlines, strict=True):
            self.waiting[self.calls, position] = (priority, deadline, tenant)
        self.offered += len(rows)
        priorities, tenants = [p for p, _, _ in rows], [t for _, _, t in rows]
        self.scheduler.offer(self.calls, positions, priorities, tenants, deadlines, self.now, ROW_BYTES)
        self.account()

    @rule(rows=st.integers(1, 9), ms=st.integers(-2, 60))
    def start_directly(self, rows: int, ms: int) -> None:
        run = self.scheduler.start_directly(-1, rows, self.now + ms * MILLI, self.now)
        if run is not None:
            assert not self.waiting
            assert not self.running
            assert rows <= self.limits.max_rows
            assert ms > 0
            self.running.append(run)

    @rule()
    def switch_engine(self) -> None:
        self.scheduler.switch_engine(self.limits, RunTimes())
        self.orphans += self.running
        self.running = []

    @rule()
    def start(self) -> None:
        run = self.scheduler.start(self.now)
        self.account()
        if run is None:
            self.check_none()
            return
        self.running.append(run)
        keys = [(piece.call, row) for piece in run.parts for row in piece.rows]
        assert len(keys) == run.row_count <= self.limits.max_rows
        assert len({piece.call for piece in run.parts}) == len(run.parts)
        chosen = [self.waiting.pop(key) for key in keys]
        assert all(deadline > self.now for _, deadline, _ in chosen)
        self.ended.update(keys)
        self.check_order(chosen)

    def check_none(self) -> None:
        assert not self.waiting or len(self.running) == self.limits.instances

    def check_order(self, chosen: list[tuple[int, float, str]]) -> None:
        """Priority first; among equals of one tenant, deadline. Tenants may give way to each other."""
        if not self.waiting:
            return
        assert min(p for p, _, _ in chosen) >= max(p for p, _, _ in self.waiting.values())
        for priority, deadline, tenant in chosen:
            stay = [d for p, d, t in self.waiting.values() if (p, t) == (priority, tenant)]
            assert not stay or deadline <= min(stay)

    @precondition(lambda self: self.running)
    @rule(ms=st.one_of(st.none(), st.floats(0, 40)))
    def finish(self, ms: float | None) -> None:
        self.scheduler.finish(self.running.pop(0), None if ms is None else ms * MILLI)

    @precondition(lambda self: self.orphans)
    @rule(ms=st.floats(0, 40))
    def an_orphan_comes_back(self, ms: float) -> None:
        self.scheduler.finish(self.orphans.pop(), ms * MILLI)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted({call for call, _ in self.waiting})))
        self.scheduler.withdraw(call)
        for key in [key for key in self.waiting if key[0] == call]:
            del self.waiting[key]
            self.ended[key] += 1

    @rule(ms=st.integers(1, 30))
    def wait(self, ms: int) -> None:
        self.now += ms * MILLI

    def account(self) -> None:
        """Takes the drops: each is a row that waited, for a reason that holds."""
        for drop in self.scheduler.drops():
            for row in drop.rows:
                priority, deadline, _ = self.waiting.pop((drop.call, row))
                self.ended[drop.call, row] += 1
                self.check(drop, priority, deadline)

    def check(self, drop: DroppedRows[int], priority: int, deadline: float) -> None:
        if drop.reason is DropReason.EXPIRED:
            assert deadline <= self.now
        elif drop.reason is DropReason.TOO_LATE:
            # Whoever has time for the longest possible run is never given up. (/ 0.95: the drop relaxed it.)
            sizes = [self.limits.padded(n + 1) for n in range(self.limits.max_rows)]
            longest = max(self.scheduler.times.estimate(n) for n in sizes)
            assert deadline <= self.now + longest / 0.95 + 1e-9
        else:
            kept = [
                p for key, (p, _, _) in self.waiting.items() if key[0] != drop.call or key[1] not in drop.rows
            ]
            assert len(kept) >= self.limits.max_queue_rows
            assert priority <= min(kept) or sorted(kept)[-self.limits.max_queue_rows] >= priority

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert self.scheduler.queued == len(self.waiting) <= self.limits.max_queue_rows
        assert sum(self.ended.values()) + len(self.waiting) == self.offered
        assert not self.ended or max(self.ended.values()) == 1
        wake = self.scheduler.wake_at()
        assert (wake is None) == (not self.waiting)


class FullHistories(Histories):
    """The same with every other limit in force: lane, reserved instance, bytes, buckets."""

    def made(self) -> Limits:
        return Limits(
            max_rows=8,
            max_queue_rows=20,
            instances=3,
            max_bytes=5 * ROW_BYTES,
            buckets=(1, 4, 8),
            lane_priority=3,
            lane_rows=2,
            lane_instances=1,
        )

    def check_none(self) -> None:
        ordinary = sum(not run.lane for run in self.running)
        lane = any(p >= 3 for p, _, _ in self.waiting.values())
        assert not self.waiting or len(self.running) == 3 or (not lane and ordinary == 2)

    def check_order(self, chosen: list[tuple[int, float, str]]) -> None:
        super().check_order(chosen)
        assert len(chosen) <= 5
        lane = [p for p, _, _ in chosen if p >= 3]
        assert not lane or len(chosen) <= max(len(lane), 2)


Histories.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase
FullHistories.TestCase.settings = Histories.TestCase.settings
TestFullHistories = FullHistories.TestCase


def scheduler(
    max_rows: int = 4,
    queue: int = 100,
    instances: int = 1,
    delay: float = 0.0,
    known: dict[int, float] | None = None,
) -> Scheduler[str]:
    times = RunTimes()
    for rows, seconds in (known or {}).items():
        times.learn(rows, seconds)
    return Scheduler(Limits(max_rows, queue, instances, delay), times)


def offer(
    it: Scheduler[str],
    call: str,
    rows: int,
    deadline: float = 10.0,
    priority: int = 1,
    now: float = 0.0,
    tenant: str = "t",
) -> None:
    it.offer(call, range(rows), [priority] * rows, [tenant] * rows, [deadline] * rows, now, ROW_BYTES)


def calls(run: ScheduledRun[str] | None) -> dict[str, list[int]]:
    assert run is not None
    return {piece.call: piece.rows for piece in run.parts}


def test_expired_rows_make_room_before_anyone_is_shed() -> None:
    it = scheduler(queue=4)
    offer(it, "old", 4, deadline=1.0)
    offer(it, "new", 4, deadline=9.0, now=2.0)

    assert [(d.call, d.reason) for d in it.drops()] == [("old", DropReason.EXPIRED)]
    assert it.queued == 4


def test_a_row_that_cannot_make_it_is_dropped() -> None:
    it = scheduler(known={1: 0.010, 4: 0.010})
    offer(it, "late", 1, deadline=0.009)
    offer(it, "in time", 1, deadline=0.020)

    assert calls(it.start(0.0)) == {"in time": [0]}
    assert [(d.call, d.reason) for d in it.drops()] == [("late", DropReason.TOO_LATE)]


def test_a_run_shrinks_for_an_urgent_row_of_high_priority() -> None:
    it = scheduler(max_rows=8, known={2: 0.002, 4: 0.004, 8: 0.008})
    offer(it, "many", 7, deadline=9.0, priority=1)
    offer(it, "urgent", 1, deadline=0.003, priority=2)

    assert calls(it.start(0.0)) == {"urgent": [0], "many": [0]}
    assert it.drops() == []


def test_a_wrong_estimate_does_not_starve_the_model() -> None:
    it = scheduler(known={1: 60.0})
    for attempt in range(500):
        offer(it, f"call {attempt}", 1, deadline=1.0)
        if (run := it.start(0.0)) is not None:
            break
    assert run is not None


def test_waiting_for_a_larger_batch_ends_with_rows_age_or_deadline() -> None:
    it = scheduler(max_rows=4, delay=0.005, known={1: 0.001, 4: 0.001})
    offer(it, "a", 1)
    assert it.start(0.0) is None
    assert it.wake_at() == pytest.approx(0.005)
    offer(it, "b", 3, now=0.001)
    assert calls(it.start(0.001)) == {"a": [0], "b": [0, 1, 2]}

    it = scheduler(max_rows=4, delay=0.005)
    offer(it, "a", 1)
    assert calls(it.start(0.005)) == {"a": [0]}

    it = scheduler(max_rows=4, delay=0.005, known={1: 0.001})
    offer(it, "hurried", 1, deadline=0.006)
    assert it.wake_at() == pytest.approx(0.003)
    assert calls(it.start(0.003)) == {"hurried": [0]}


def test_while_busy_it_wakes_for_the_earliest_deadline() -> None:
    it = scheduler()
    assert it.wake_at() is None
    offer(it, "runs", 1)
    assert it.start(0.0) is not None
    offer(it, "waits", 1, deadline=3.0)
    offer(it, "waits less", 1, deadline=2.0, priority=0)

    assert it.wake_at() == 2.0
    assert it.start(2.0) is None
    assert [d.call for d in it.drops()] == ["waits less"]


def test_run_times_follow_and_scale() -> None:
    times = RunTimes()
    assert times.estimate(5) == 0.0
    times.learn(8, 0.008)
    assert times.estimate(8) == 0.008
    assert times.estimate(64) == pytest.approx(0.064)
    assert times.estimate(1) == 0.008
    times.learn(1, 0.002)
    assert times.estimate(1) == 0.002
    for _ in range(100):
        times.learn(8, 0.004)
    assert math.isclose(times.estimate(8), 0.004, rel_tol=1e-3)
    times.learn(8, 100.0)
    assert times.estimate(8) < 0.006
