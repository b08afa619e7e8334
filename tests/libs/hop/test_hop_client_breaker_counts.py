"""What the breaker counts, to the call: its window, its probes, and how long a replica is doubted."""

import pytest

from headrace.hop.client.settings import BreakerRules as Rules
from headrace.hop.resilience.breaker import Breaker, State, Window

RULES = Rules(
    window_s=10, min_calls=4, failure_ratio=0.5, slow_s=2, slow_ratio=0.5, open_s=1, max_open_s=8, probes=3
)


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


def test_a_window_counts_what_comes_at_its_very_beginning() -> None:
    window = Window(10.0)
    window.add(0.0, 1.0, False)
    window.add(1.0, 0.0, False)
    assert (window.calls, window.failures) == (2, 1.0)


def tripped(now: float = 0.0) -> Breaker:
    breaker = Breaker(RULES, now)
    for failed in (1.0, 1.0, 0.0, 0.0):  # the good ones make them enough to judge
        breaker.record(breaker.admit(now), now, 0.1, failed)
    assert breaker.state(now) is State.OPEN
    return breaker


def test_as_many_probes_are_let_through_as_the_rules_say() -> None:
    breaker = tripped()
    permits = [breaker.admit(1.0) for _ in range(RULES.probes)]
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
    permits = [breaker.admit(3.0) for _ in range(RULES.probes)]
    assert all(permits)
    assert breaker.admit(3.0) == 0
    for permit in permits[:-1]:
        breaker.record(permit, 3.0, 0.1, 0.0)
    assert breaker.state(3.0) is State.HALF_OPEN
    breaker.record(permits[-1], 3.0, 0.1, 0.0)
    assert breaker.state(3.0) is State.CLOSED


def test_news_from_an_earlier_state_is_ignored() -> None:
    breaker = Breaker(RULES, 0.0)
    old = breaker.admit(0.0)
    for _ in range(RULES.min_calls):
        breaker.record(breaker.admit(0.0), 0.0, 0.1, 1.0)
    permit = breaker.admit(1.0)
    breaker.release(old)
    breaker.record(old, 1.0, 0.1, 1.0)
    assert breaker.state(1.0) is State.HALF_OPEN
    others = [breaker.admit(1.0) for _ in range(RULES.probes - 1)]
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


def test_a_short_failed_call_counts_unless_it_timed_out() -> None:
    breaker = Breaker(RULES, 0.0)
    breaker.record(breaker.admit(0.0), 0.0, 1.0, 0.0)  # answers take a second
    for _ in range(3):
        breaker.timed_out(breaker.admit(0.0), 0.0, 0.1)
    assert breaker.state(0.0) is State.CLOSED
    assert not breaker.doubted(0.0)
    for _ in range(3):
        breaker.record(breaker.admit(0.0), 0.0, 0.1, 1.0)
    assert breaker.state(0.0) is State.OPEN
