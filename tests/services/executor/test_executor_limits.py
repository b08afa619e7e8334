"""Lane, sizes, bytes and fairness among tenants, one at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.scheduling.run_time import RunTimes
from services.executor.scheduling.scheduler import Limits, ScheduledRun, Scheduler
from tests.services.executor.test_executor_scheduler import offer


def started(it: Scheduler[str]) -> ScheduledRun[str]:
    run = it.start(0.0)
    assert run is not None
    return run


def known(rows: int, seconds: float) -> RunTimes:
    """Run times of which one is known."""
    times = RunTimes()
    times.learn(rows, seconds)
    return times


def sizes(run: ScheduledRun[str] | None) -> dict[str, int]:
    assert run is not None
    return {piece.call: len(piece.rows) for piece in run.parts}


@pytest.mark.parametrize(("rows", "padded"), [(1, 1), (2, 8), (8, 8), (9, 32), (33, 33)])
def test_other_sizes_are_padded_up_to_the_next_bucket(rows: int, padded: int) -> None:
    assert Limits(64, 1000, buckets=(1, 8, 32)).padded(rows) == padded


def test_estimates_are_of_the_padded_size() -> None:
    times = known(1, 0.001)
    times.learn(32, 0.016)
    it: Scheduler[str] = Scheduler(Limits(32, 100, buckets=(1, 32)), times)
    offer(it, "a", 3)
    run = started(it)
    assert run.expected == 0.016
    it.finish(run, 0.032)
    assert times.estimate(32) > 0.016
    assert times.estimate(1) == 0.001


def test_a_run_ends_at_its_bytes_but_one_row_always_goes() -> None:
    it: Scheduler[str] = Scheduler(Limits(64, 100, max_bytes=350))
    offer(it, "a", 2)
    offer(it, "b", 2, deadline=11.0)
    first = started(it)
    assert sizes(first) == {"a": 2, "b": 1}
    it.finish(first, None)
    assert sizes(it.start(0.0)) == {"b": 1}

    it = Scheduler(Limits(64, 100, max_bytes=50))
    offer(it, "huge", 2)
    assert sizes(it.start(0.0)) == {"huge": 1}


def test_the_lane_waits_for_nobody_and_runs_small() -> None:
    it: Scheduler[str] = Scheduler(Limits(64, 100, max_delay=0.005, lane_priority=5, lane_rows=4))
    offer(it, "ordinary", 20)
    assert it.start(0.0) is None
    offer(it, "urgent", 1, priority=5)
    run = started(it)
    assert sizes(run) == {"urgent": 1, "ordinary": 3}
    it.finish(run, None)
    offer(it, "many", 10, priority=6)
    assert sizes(it.start(0.0)) == {"many": 10}


def test_instances_reserved_for_the_lane_are_free_for_it() -> None:
    it: Scheduler[str] = Scheduler(Limits(4, 100, instances=2, lane_priority=5, lane_instances=1))
    offer(it, "ordinary", 12)
    assert sizes(it.start(0.0)) == {"ordinary": 4}
    assert it.start(0.0) is None
    offer(it, "urgent", 1, priority=5)
    run = started(it)
    assert run.lane
    it.finish(run, None)
    assert it.start(0.0) is None


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=5, max_size=60),
    st.sampled_from([1, 3, 8]),
)
def test_tenants_that_always_wait_stay_together(arrivals: list[tuple[int, int]], max_rows: int) -> None:
    """However early the deadlines of one of them: neither gets further ahead than two runs' lead and one run."""
    it: Scheduler[str] = Scheduler(Limits(max_rows, 1 << 20))
    had = {"hurried": 0, "patient": 0}
    for n, (hurried, patient) in enumerate(arrivals):
        for tenant, rows, deadline in (("hurried", hurried, 5.0 + n), ("patient", patient, 900.0)):
            # Both keep more waiting than one run takes.
            offer(it, tenant, max_rows + rows, tenant=tenant, deadline=deadline)
        run = started(it)
        for call, taken in sizes(run).items():
            had[call] += taken
        it.finish(run, None)
        assert abs(had["hurried"] - had["patient"]) <= 3 * max_rows


def test_a_tenant_that_was_absent_has_saved_nothing_up() -> None:
    it: Scheduler[str] = Scheduler(Limits(4, 1 << 20))
    offer(it, "a", 400, tenant="a", deadline=900.0)
    for _ in range(50):
        run = started(it)
        it.finish(run, None)
    offer(it, "b", 400, tenant="b", deadline=5.0)
    runs = []
    for _ in range(12):
        run = started(it)
        runs.append(sizes(run))
        it.finish(run, None)
    total = sum(run.get("a", 0) for run in runs)
    assert total >= 12 * 4 / 2 - 3 * 4


def test_shedding_drops_rows_of_the_tenant_with_most() -> None:
    it: Scheduler[str] = Scheduler(Limits(4, 10))
    offer(it, "small", 3, tenant="modest", deadline=99.0)
    offer(it, "large", 9, tenant="greedy")

    assert [(d.call, d.rows) for d in it.drops()] == [("large", [7, 8])]
    offer(it, "more", 10, tenant="greedy", deadline=5.0)
    shed = {
        call: sum(len(d.rows) for d in it.drops() if d.call == call) for call in ("small", "large", "more")
    }
    assert shed["small"] == 0
    assert it.queued == 10


def test_a_lone_call_need_not_be_offered() -> None:
    it: Scheduler[str] = Scheduler(Limits(4, 10, instances=2), known(1, 0.010))

    assert it.start_directly("late", 1, 0.010, 0.0) is None
    assert it.start_directly("too many", 5, 9.0, 0.0) is None
    run = it.start_directly("a", 2, 9.0, 0.0)
    assert sizes(run) == {"a": 2}
    assert it.start_directly("b", 1, 9.0, 0.0) is None
    assert run is not None
    it.finish(run, 0.001)
    assert it.idle


@pytest.mark.parametrize(("seconds", "ahead"), [(0.001, True), (0.050, False)])
def test_a_full_short_run_is_handed_out_ahead(seconds: float, ahead: bool) -> None:
    it: Scheduler[str] = Scheduler(Limits(4, 100, ahead=0.005), known(4, seconds))
    for call in "abcd":
        offer(it, call, 4)
    assert sizes(it.start(0.0)) == {"a": 4}
    assert (it.start(0.0) is not None) == ahead
    # One, and no more.
    assert it.start(0.0) is None


def test_what_is_not_full_waits_for_the_instance() -> None:
    it: Scheduler[str] = Scheduler(Limits(4, 100, ahead=0.005), known(4, 0.001))
    offer(it, "a", 1)
    offer(it, "b", 3)
    assert it.start(0.0) is not None
    offer(it, "c", 3)
    assert it.start(0.0) is None


def test_a_row_that_would_be_late_behind_the_run_before_it_is_not_handed_out_ahead() -> None:
    it: Scheduler[str] = Scheduler(Limits(4, 100, ahead=0.005), known(4, 0.004))
    offer(it, "a", 4)
    assert it.start(0.0) is not None
    offer(it, "b", 4, deadline=0.006)
    offer(it, "c", 4, deadline=0.020)
    assert sizes(it.start(0.0)) == {"c": 4}
    assert [d.call for d in it.drops()] == ["b"]
