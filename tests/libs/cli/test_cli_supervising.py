"""The restart policy as a state machine: delays bounded and growing, reset by stability, readiness with hysteresis."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.supervising import Rules, State, Watch

RULES = Rules(first_delay=0.1, max_delay=10.0, stable=30.0, start=120.0, misses=2)


def test_failures_in_a_row_wait_longer_up_to_the_limit() -> None:
    watch, delays = Watch(RULES), []
    for now in range(10):
        watch.started(now)
        delays.append(watch.exited(now + 0.5))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert watch.restarts == 10


@given(st.integers(min_value=0, max_value=5000), st.floats(min_value=30, max_value=1e6))
def test_a_stable_time_forgets_the_failures(failures: int, stable_for: float) -> None:
    watch = Watch(RULES)
    for _ in range(failures):
        watch.started(0)
        assert 0.1 <= watch.exited(0) <= 10.0
    watch.started(0)
    watch.probed(True, 0)
    assert watch.exited(stable_for) == 0.1


@given(st.floats(min_value=0, max_value=29.9))
def test_a_short_readiness_does_not(ready_for: float) -> None:
    watch = Watch(RULES)
    watch.started(0)
    watch.exited(0)
    watch.started(0)
    watch.probed(True, 0)
    assert watch.exited(ready_for) == 0.2


def test_one_late_answer_is_no_failure_two_are() -> None:
    watch = Watch(RULES)
    watch.started(0)
    watch.probed(True, 1)
    watch.probed(False, 2)
    assert watch.state is State.READY
    watch.probed(False, 3)
    assert watch.state is State.UNREADY
    watch.probed(True, 4)
    assert watch.state is State.READY


def test_only_a_starting_process_is_overdue() -> None:
    watch = Watch(RULES)
    watch.started(0)
    assert not watch.overdue(119)
    assert watch.overdue(120)
    watch.probed(True, 121)
    watch.probed(False, 122)
    watch.probed(False, 1000)
    assert watch.state is State.UNREADY
    # It may come back (SIGCONT), and its callers have a breaker; a person can restart it.
    assert not watch.overdue(10_000)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["start", "good", "bad", "exit", "stop"]), st.floats(0, 100)), max_size=60
)


@given(EVENTS)
def test_any_history_keeps_the_invariants(events: list[tuple[str, float]]) -> None:
    watch, now, running = Watch(RULES), 0.0, False
    for kind, passed in events:
        now += passed
        match kind:
            case "start" if not running:
                watch.started(now)
                running = True
                assert watch.state is State.STARTING
            case "good" | "bad":
                before = watch.state
                watch.probed(kind == "good", now)
                if not running:
                    assert watch.state is before
                elif kind == "good":
                    assert watch.state is State.READY
            case "exit" if running:
                delay = watch.exited(now)
                running = False
                assert RULES.first_delay <= delay <= RULES.max_delay
                assert watch.state is State.WAITING
            case "stop":
                watch.stopped(now)
                running = False
                assert watch.state is State.STOPPED
            case _:
                pass
        assert running == (watch.state in (State.STARTING, State.READY, State.UNREADY))


def test_processes_in_a_row_that_ended_before_they_were_ready_are_counted() -> None:
    watch = Watch(RULES)
    for now in range(3):
        watch.started(now)
        watch.probed(False, now)
        watch.exited(now)
    assert watch.in_vain == 3
    watch.started(3)
    watch.probed(True, 3)
    assert watch.in_vain == 0
    watch.exited(4)
    assert watch.in_vain == 0
    watch.started(4)
    watch.exited(4)
    assert watch.in_vain == 1
