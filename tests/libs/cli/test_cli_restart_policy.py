"""The restart policy as a state machine: delays bounded and growing, reset by stability, readiness with hysteresis, and
an end for processes that hang."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.supervision.restart_policy import ProbeResult, RestartPolicy, RestartRules, State

RULES = RestartRules(
    first_delay=0.1,
    max_delay=10.0,
    stable=30.0,
    start=120.0,
    misses=2,
    silent=3,
    unanswered=5,
    stopped=6.0,
    still=7.5,
    late=1.0,
)


def ready() -> RestartPolicy:
    watch = RestartPolicy(RULES)
    watch.started(0)
    watch.probed(ProbeResult.READY, 1)
    return watch


@given(st.integers(min_value=1, max_value=5000), st.floats(min_value=0, max_value=60))
def test_only_a_stable_time_forgets_the_failures(failures: int, ready_for: float) -> None:
    watch = RestartPolicy(RULES)
    for _ in range(failures):
        watch.started(0)
        assert 0.1 <= watch.ended(0) <= 10.0
    watch.started(0)
    watch.probed(ProbeResult.READY, 0)
    assert (watch.ended(ready_for) == 0.1) is (ready_for >= 30)


def test_one_late_answer_is_no_failure_two_are_and_only_a_starting_process_is_overdue() -> None:
    watch = RestartPolicy(RULES)
    watch.started(0)
    assert (watch.must_end(119), watch.must_end(120)) == ("", "it was not ready after 120 s")
    watch.probed(ProbeResult.READY, 121)
    watch.probed(ProbeResult.SILENT, 122)
    assert watch.state is State.READY
    watch.probed(ProbeResult.SILENT, 1000)
    assert watch.state is State.UNREADY
    assert not watch.must_end(10_000)
    watch.probed(ProbeResult.READY, 10_001)
    assert watch.state is State.READY


def test_a_process_is_hung_once_it_is_stopped_without_a_break() -> None:
    for watch in (ready(), RestartPolicy(RULES)):
        watch.stopped_for(5.9, 10)
        watch.stopped_for(None, 11)
        watch.stopped_for(3.0, 14)
        assert not watch.must_end(2)
        watch.stopped_for(3.0, 17)
        assert "stopped (SIGSTOP)" in watch.must_end(2)
    watch = ready()
    watch.stopped_for(1.0, 3)
    assert watch.state is State.UNREADY
    watch.stopped_for(None, 4)
    watch.probed(ProbeResult.READY, 5)
    assert watch.state is State.READY


def test_a_process_that_gives_no_sign_of_life_is_hung_after_so_many_probes() -> None:
    watch = ready()
    for _ in range(RULES.silent):
        assert not watch.must_end(2)
        watch.probed(ProbeResult.SILENT, 2)
    assert "no answer to 3 probes" in watch.must_end(2)
    watch.ended(3)
    assert not watch.must_end(2)
    watch.started(4)
    watch.probed(ProbeResult.READY, 5)
    watch.probed(ProbeResult.SILENT, 6)
    assert not watch.must_end(2)


@given(st.lists(st.sampled_from([ProbeResult.SILENT, ProbeResult.BUSY]), min_size=0, max_size=30))
def test_one_whose_loop_takes_turns_is_given_more_time(probes: list[ProbeResult]) -> None:
    watch, silent = ready(), 0
    for count, seen in enumerate(probes, 1):
        watch.probed(seen, 2)
        silent = silent + 1 if seen is ProbeResult.SILENT else 0
        assert bool(watch.must_end(2)) == (silent >= RULES.silent or count >= RULES.unanswered)


@given(st.lists(st.sampled_from([ProbeResult.SILENT, ProbeResult.BUSY]), max_size=2), st.booleans())
def test_any_answer_is_life(missed: list[ProbeResult], refusing: bool) -> None:
    watch = ready()
    for _ in range(20):
        for seen in missed:
            watch.probed(seen, 2)
        # Also one that says no: a process that drains, or whose door is full, does not hang.
        watch.probed(ProbeResult.REFUSING if refusing else ProbeResult.READY, 2)
        assert not watch.must_end(2)
    assert watch.state is (State.UNREADY if refusing else State.READY)


@given(st.lists(st.floats(min_value=1.01, max_value=1e6), max_size=50))
def test_probes_missed_while_the_supervisor_was_late_prove_nothing(late: list[float]) -> None:
    watch = ready()
    for late_by in late:
        watch.probed(ProbeResult.SILENT, 2, late_by)
        assert watch.state is State.READY
        assert not watch.must_end(2)
    for _ in range(RULES.silent):
        assert not watch.must_end(2)
        watch.probed(ProbeResult.SILENT, 2, 0.9)
    assert watch.must_end(2)


def test_a_loop_that_stands_still_by_the_process_s_own_heartbeat_is_hung_without_a_missed_probe() -> None:
    watch = ready()
    for now in range(10, 15):  # the last turn was at 7.2
        watch.heartbeat(now - 7.2, now)
        assert not watch.must_end(2)
        assert watch.state is State.READY
    watch.heartbeat(15 - 7.2, 15)
    assert "its event loop has stood still for 8 s" in watch.must_end(2)
    assert watch.state is State.UNREADY
    watch.ended(16)
    assert not watch.must_end(2)


def test_neither_one_heartbeat_nor_those_of_a_process_that_starts_prove_anything() -> None:
    watch = ready()
    # As after a pause of the whole machine: the loop takes a turn as soon as it goes on.
    for age, now in ((3600.0, 4000.0), (0.4, 4001.0)):
        watch.heartbeat(age, now)
        assert not watch.must_end(2)
    watch = RestartPolicy(RULES)
    watch.started(0)
    for age, now in ((50.0, 60), (60.0, 70)):
        watch.heartbeat(age, now)
        assert not watch.must_end(2)


@given(st.lists(st.tuples(st.floats(0.1, 3.0), st.floats(0, 1e4), st.booleans()), max_size=40))
def test_a_loop_that_took_a_turn_between_two_heartbeats_is_not_hung(
    told: list[tuple[float, float, bool]],
) -> None:
    watch, now = ready(), 10.0
    for passed, age, silent in told:
        now += passed
        # Younger than the time since the last one: there was a turn in between.
        watch.heartbeat(None if silent else min(age, passed - 0.01), now)
        assert not watch.must_end(2)


@given(st.floats(min_value=1.01, max_value=1e6))
def test_heartbeats_read_by_a_late_supervisor_prove_nothing(late_by: float) -> None:
    watch = ready()
    for now in range(10, 100):
        watch.heartbeat(now - 2.0, now, late_by)
        assert not watch.must_end(2)
    watch.heartbeat(98.0, 100)
    assert watch.must_end(2)


@given(st.sampled_from([ProbeResult.READY, ProbeResult.REFUSING]))
def test_an_answer_outweighs_the_heartbeats_before_it(answer: ProbeResult) -> None:
    watch = ready()
    watch.heartbeat(7.0, 10)
    watch.heartbeat(8.0, 11)
    assert watch.must_end(2)
    watch.probed(answer, 11)
    assert not watch.must_end(2)
    watch.heartbeat(8.5, 11.5)
    assert not watch.must_end(2)


def test_a_start_is_given_the_time_in_which_the_supervisor_was_stopped() -> None:
    watch = RestartPolicy(RULES)
    watch.started(0)
    watch.probed(ProbeResult.SILENT, 500, 500)
    assert not watch.must_end(500)
    assert watch.must_end(620)


def test_one_that_cannot_be_started_is_tried_less_and_less() -> None:
    watch = RestartPolicy(RULES)
    delays = [(watch.ended(now, ran=False), bool(watch.trouble)) for now in range(8)]
    assert delays == list(
        zip([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0], [False] * 3 + [True] * 5, strict=True)
    )
    watch.probed(ProbeResult.READY, 8)
    assert watch.state is State.WAITING
    assert (watch.in_vain, watch.restarts) == (8, 0)
    watch.started(8)
    watch.probed(ProbeResult.SILENT, 8)
    watch.ended(8)
    assert watch.in_vain == 9
    watch.started(9)
    watch.probed(ProbeResult.READY, 9)
    assert watch.in_vain == 0
    assert watch.ended(9 + RULES.stable) == 0.1
    assert watch.in_vain == 0


def test_what_was_wrong_before_it_was_ready_is_not_told_once_it_is_unready() -> None:
    watch = RestartPolicy(RULES)
    watch.ended(0, "no_such_setting", refused=True)
    watch.started(1)
    assert (watch.reason, watch.trouble) == ("no_such_setting", "it can't use its settings: no_such_setting")
    watch.probed(ProbeResult.READY, 2)
    watch.stopped_for(1.0, 3)
    assert (watch.state, watch.reason, watch.trouble) == (State.UNREADY, "", "")
    watch.probed(ProbeResult.REFUSING, 4)
    assert watch.reason == "it says that it takes no calls now"
