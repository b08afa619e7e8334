"""The breaker: what it counts, to the call; and what it must never do, whatever happens in whatever order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.hop.client.settings import BreakerRules as Rules
from headrace.hop.resilience.breaker import _PROBE_S, Breaker, State, Window

RULES = Rules(window_s=5, min_calls=10, failure_ratio=0.5, slow_s=2, open_s=1, max_open_s=10, probes=2)


def run(
    breaker: Breaker,
    now: float,
    calls: int,
    *,
    failed: float = 0.0,
    seconds: float = 0.01,
    step: float = 0.01,
) -> float:
    """Makes calls one after another; gives the time after them."""
    for _ in range(calls):
        permit = breaker.admit(now)
        if not permit:
            break
        now += step
        breaker.record(permit, now, seconds, failed)
    return now


def opened(now: float = 0.0) -> tuple[Breaker, float]:
    breaker = Breaker(RULES, now)
    now = run(breaker, now, 10, failed=1.0)
    assert breaker.state(now) is State.OPEN
    assert breaker.admit(now) == 0
    return breaker, now


FAILED, PARTLY, QUICK = {"failed": 1.0}, {"failed": 0.49}, {"step": 0.001}


@pytest.mark.parametrize(
    ("runs", "state"),
    [
        pytest.param([(0, 10, {"seconds": 2.5})], State.OPEN, id="slow calls"),
        pytest.param([(0, 3, {"seconds": 2.5}), (0, 2, {})] * 9, State.CLOSED, id="slow ones among others"),
        pytest.param([(0, 9, FAILED)], State.CLOSED, id="too few failures"),
        pytest.param([(0, 100, PARTLY)], State.CLOSED, id="a lesser part of each batch"),
        pytest.param([(0, 100, PARTLY), (0, 100, FAILED)], State.OPEN, id="a part of some and all of others"),
        pytest.param([(0, 3, {}), (0, 2, FAILED)] * 50, State.CLOSED, id="failures below the ratio"),
        pytest.param(
            [(0, 9, FAILED), (5.1, 1, {}), (0, 8, FAILED)], State.CLOSED, id="failures left the window"
        ),
        pytest.param(
            [(0, 1000, QUICK), (0, 100, FAILED | QUICK)], State.CLOSED, id="a quick burst among many"
        ),
    ],
)
def test_what_opens_it(runs: list[tuple[float, int, dict[str, float]]], state: State) -> None:
    breaker, now = Breaker(RULES, 0), 0.0
    for pause, calls, how in runs:
        now = run(breaker, now + pause, calls, **how)
    assert breaker.state(now) is state


def test_after_a_failure_it_is_doubted_and_one_call_at_a_time_finds_out() -> None:
    breaker = Breaker(RULES, 0)
    assert not breaker.doubted(0)
    now = run(breaker, 0, 1, failed=1.0)
    assert breaker.doubted(now)
    now += 1
    assert not breaker.doubted(now)
    breaker.admit(now)
    assert breaker.doubted(now)
    breaker.record(breaker.admit(now), now, 0.01, 0.0)
    assert not breaker.doubted(now)


def test_opens_on_silence_though_the_window_is_full_of_answers() -> None:
    breaker = Breaker(RULES, 0)
    now = run(breaker, 0, 1000, step=0.001)
    for _ in range(3):  # a few large calls that hang for a second each
        permit = breaker.admit(now)
        now += 1
        breaker.timed_out(permit, now, 1.0)
    assert breaker.state(now) is State.OPEN


def test_open_time_doubles_up_to_its_maximum_and_starts_anew_after_closing() -> None:
    breaker, now = opened()
    waits = []
    for _ in range(6):
        waits.append(breaker.retry_in(now))
        now += breaker.retry_in(now)
        breaker.record(breaker.admit(now), now, 0.01, 1.0)
    assert waits == pytest.approx([1, 2, 4, 8, 10, 10])
    now += breaker.retry_in(now)
    now = run(breaker, now, 2)
    assert breaker.state(now) is State.CLOSED
    now = run(breaker, now, 10, failed=1.0)
    assert breaker.retry_in(now) == pytest.approx(1)


@pytest.mark.parametrize(("usual", "given"), [(0.01, 0.4), (0.5, 1.7), (0.0, 1.7)])
def test_a_deadline_that_is_not_ample_is_the_callers_doing(usual: float, given: float) -> None:
    """Ample is a quarter of `slow_s`, and four times what is usual; `slow_s` where that is not known (0)."""
    breaker = Breaker(RULES, 0)
    now = run(breaker, 0, 5, seconds=usual) if usual else 0.0
    for _ in range(100):
        permit = breaker.admit(now)
        now += 0.001
        breaker.timed_out(permit, now, given)
    assert breaker.state(now) is State.CLOSED
    assert not breaker.doubted(now)


def test_many_rows_are_slow_only_beside_as_many() -> None:
    breaker, now = Breaker(RULES, 0), 0.0
    for seconds, state in ((5.0, State.CLOSED), (25.0, State.OPEN)):
        now += 10
        for _ in range(20):
            permit = breaker.admit(now)
            breaker.record(permit, now, seconds, 0.0, kind=10, rows=1000)
        assert breaker.state(now) is state


def test_that_it_could_not_be_reached_says_nothing_once_it_answers() -> None:
    for lost, state in ((True, State.CLOSED), (False, State.OPEN)):
        breaker = Breaker(RULES, 0)
        for _ in range(RULES.min_calls):
            breaker.record(breaker.admit(1.0), 1.0, 0.01, 1.0, lost=lost)
        breaker.reached(0.9)
        assert breaker.state(1.0) is State.OPEN
        breaker.reached(1.1)
        assert breaker.state(1.1) is state


def test_a_probe_without_answer_holds_up_the_next_for_a_moment_only() -> None:
    breaker, now = opened()
    now += 1
    held = [breaker.admit(now) for _ in range(3)]
    assert [bool(p) for p in held] == [True, True, False]
    now += _PROBE_S
    for _ in range(RULES.probes):
        permit = breaker.admit(now)
        assert permit
        breaker.record(permit, now, 0.01, 0.0)
        now += _PROBE_S
    assert breaker.state(now) is State.CLOSED
    breaker.timed_out(held[0], now, 5.0)
    assert breaker.state(now) is State.CLOSED


THREE_PROBES = Rules(window_s=10, min_calls=4, failure_ratio=0.5, slow_s=2, open_s=1, max_open_s=8, probes=3)


def test_a_window_forgets_its_oldest_tenth_at_a_time() -> None:
    window = Window(10.0)
    assert (window.calls, window.failures, window.slow) == (0, 0.0, 0)
    for second in range(10):
        window.add(second + 0.5, 1.0, True)
    assert (window.calls, window.failures, window.slow) == (10, 10.0, 10)
    window.add(10.5, 0.0, False)
    assert (window.calls, window.failures, window.slow) == (10, 9.0, 9)
    window.add(15.5, 0.25, False)
    assert (window.calls, window.failures, window.slow) == (6, 4.25, 4)
    window.clear()
    assert (window.calls, window.failures, window.slow) == (0, 0.0, 0)


def tripped(now: float = 0.0) -> Breaker:
    breaker = Breaker(THREE_PROBES, now)
    for failed in (1.0, 1.0, 0.0, 0.0):  # the good ones make them enough to judge
        breaker.record(breaker.admit(now), now, 0.1, failed)
    assert breaker.state(now) is State.OPEN
    return breaker


def test_as_many_probes_are_let_through_as_the_rules_say() -> None:
    breaker = tripped()
    permits = [breaker.admit(1.0) for _ in range(THREE_PROBES.probes)]
    assert all(permits)
    assert breaker.admit(1.0) == 0
    # One that said nothing may be followed by another; one that succeeded counts towards closing.
    breaker.release(permits[0])
    again = breaker.admit(1.0)
    assert again
    assert breaker.admit(1.0) == 0
    for permit in (*permits[1:], again):
        assert breaker.state(1.0) is State.HALF_OPEN
        breaker.record(permit, 1.1, 0.1, 0.0)
    assert breaker.state(1.1) is State.CLOSED


def test_a_second_round_of_probes_starts_from_nothing() -> None:
    breaker = tripped()
    first = [breaker.admit(1.0) for _ in range(2)]
    breaker.record(first[0], 1.0, 0.1, 0.0)
    breaker.record(first[1], 1.0, 0.1, 1.0)
    assert breaker.state(1.0) is State.OPEN
    assert breaker.retry_in(1.0) == pytest.approx(2.0)
    permits = [breaker.admit(3.0) for _ in range(THREE_PROBES.probes)]
    assert all(permits)
    assert breaker.admit(3.0) == 0
    for permit in permits[:-1]:
        breaker.record(permit, 3.0, 0.1, 0.0)
    assert breaker.state(3.0) is State.HALF_OPEN
    breaker.record(permits[-1], 3.0, 0.1, 0.0)
    assert breaker.state(3.0) is State.CLOSED


def test_news_from_an_earlier_state_is_ignored() -> None:
    breaker = Breaker(THREE_PROBES, 0.0)
    old = breaker.admit(0.0)
    for _ in range(THREE_PROBES.min_calls):
        breaker.record(breaker.admit(0.0), 0.0, 0.1, 1.0)
    permit = breaker.admit(1.0)
    breaker.release(old)
    breaker.record(old, 1.0, 0.1, 1.0)
    assert breaker.state(1.0) is State.HALF_OPEN
    others = [breaker.admit(1.0) for _ in range(THREE_PROBES.probes - 1)]
    assert all(others)
    assert breaker.admit(1.0) == 0
    breaker.release(permit)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.1), (2, 0.2), (3, 0.4), (30, 1.0)])
def test_the_doubt_doubles_with_each_failure_in_a_row_up_to_a_second(failures: int, seconds: float) -> None:
    breaker = Breaker(Rules(window_s=10, min_calls=1000), 0.0)
    for _ in range(failures):
        breaker.record(breaker.admit(0.0), 0.0, 0.1, 1.0)
    assert breaker.doubted(seconds - 0.001)
    assert not breaker.doubted(seconds + 0.001)


class Machine(RuleBasedStateMachine):
    """Any order of calls, ends and pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.breaker = Breaker(RULES, self.now)
        self.out: list[tuple[int, float, State]] = []

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        ready = self.breaker.ready(self.now)
        permit = self.breaker.admit(self.now)
        assert bool(permit) == ready
        if permit:
            self.out.append((permit, self.now, self.breaker.state(self.now)))

    @rule()
    def silent(self) -> None:
        before = self.breaker.state(self.now)
        self.breaker.silent(self.now)
        after = self.breaker.state(self.now)
        assert after is before or (before, after) == (State.HALF_OPEN, State.OPEN)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), failed=st.floats(0, 1), rows=st.integers(1, 4096))
    def end(self, data: st.DataObject, failed: float, rows: int) -> None:
        permit, began, _ = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.breaker.record(permit, self.now, self.now - began, failed, rows.bit_length(), rows)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), rows=st.integers(1, 4096), lost=st.booleans())
    def time_out(self, data: st.DataObject, rows: int, lost: bool) -> None:
        permit, began, _ = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.breaker.timed_out(permit, self.now, self.now - began, rows.bit_length(), rows, lost)

    @rule(ago=st.floats(0, 12))
    def reach(self, ago: float) -> None:
        self.breaker.reached(self.now - ago)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.breaker.release(self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))[0])

    @invariant()
    def open_time_is_bounded(self) -> None:
        assert 0 <= self.breaker.retry_in(self.now) <= RULES.max_open_s

    @invariant()
    def no_more_probes_than_allowed(self) -> None:
        epoch = max((p for p, *_ in self.out), default=0)
        began = [at for p, at, state in self.out if p == epoch and state is State.HALF_OPEN]
        assert sum(at > self.now - _PROBE_S for at in began) <= RULES.probes + 1

    def teardown(self) -> None:
        """A peer that is healthy from now on is let in again, whatever happened before."""
        for permit, _, _ in self.out:
            self.breaker.release(permit)
        for _ in range(3):
            self.now += self.breaker.retry_in(self.now)
            self.now = run(self.breaker, self.now, RULES.probes)
        assert self.breaker.state(self.now) is State.CLOSED


class HealthyMachine(RuleBasedStateMachine):
    """A peer that answers promptly, callers that cancel, give too little time or ask for much: it never opens."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(RULES, self.now)
        self.now = run(self.breaker, self.now, 3, seconds=0.1)

    @rule(seconds=st.floats(0, 1), calls=st.integers(1, 30), failing=st.floats(0, 0.4))
    def answers(self, seconds: float, calls: int, failing: float) -> None:
        self.now = run(self.breaker, self.now, calls, seconds=max(seconds, 0.1), failed=failing)

    @rule(calls=st.integers(1, 30), seconds=st.floats(0, 0.44))
    def too_little_time(self, calls: int, seconds: float) -> None:
        for _ in range(calls):
            self.breaker.timed_out(self.breaker.admit(self.now), self.now, seconds)

    @rule(calls=st.integers(1, 30), rows=st.integers(2, 4096), part=st.floats(0, 1))
    def many_rows(self, calls: int, rows: int, part: float) -> None:
        """As long as they take by nature, or their callers have only a part of that."""
        kind = rows.bit_length()
        for _ in range(calls):
            self.now += 0.01 * rows
            permit = self.breaker.admit(self.now)
            if part > 0.5:
                self.breaker.record(permit, self.now, 0.01 * rows, 0.0, kind, rows)
            else:
                self.breaker.timed_out(permit, self.now, 0.01 * rows * part, kind, rows)

    @rule(calls=st.integers(1, 30))
    def cancels(self, calls: int) -> None:
        for _ in range(calls):
            self.breaker.release(self.breaker.admit(self.now))

    @rule(seconds=st.floats(0, 20))
    def waits(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def closed(self) -> None:
        assert self.breaker.state(self.now) is State.CLOSED


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, deadline=None)
TestHealthy = HealthyMachine.TestCase
TestHealthy.settings = settings(max_examples=100, deadline=None)
