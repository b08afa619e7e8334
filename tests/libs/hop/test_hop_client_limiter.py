"""The limiter against a simulated callee, and under any order of events."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.hop.client.settings import LimiterRules as Rules
from headrace.hop.resilience.limiter import ConcurrencyLimiter


def drive(limiter: ConcurrencyLimiter, workers: int, service_s: float, rounds: int, kind: str = "k") -> None:
    """As many calls at once as the limiter lets through, to a callee with so many workers."""
    for _ in range(rounds):
        calls = 0
        while limiter.acquire():
            calls += 1
        for _ in range(calls):
            limiter.sample(kind, service_s * max(1.0, limiter.in_flight / workers))
            limiter.release()


def test_shrinks_when_calls_queue_and_settles_near_what_the_callee_can_take() -> None:
    limiter = ConcurrencyLimiter(Rules(initial=200, minimum=2, maximum=512), random.Random(1).random)
    limiter.sample("k", 0.01)
    drive(limiter, workers=20, service_s=0.01, rounds=30)
    assert 20 <= limiter.limit <= 60


def test_a_large_batch_is_not_a_queue() -> None:
    limiter = ConcurrencyLimiter(Rules(initial=16), lambda: 0.5)
    while limiter.acquire():
        pass
    for _ in range(100):
        limiter.sample(("Infer", 1), 0.001)
        limiter.sample(("Infer", 8), 0.1)
    assert limiter.limit > 16


def test_it_falls_for_a_run_of_long_answers_and_not_for_a_few_among_others() -> None:
    for quick, falls in ((0, True), (1, False)):
        limiter = ConcurrencyLimiter(Rules(initial=32, maximum=32), lambda: 0.5)
        limiter.sample("k", 0.1)
        for calls in range(40):
            for _ in range(7):
                limiter.sample("k", 5.0) if calls % 2 else limiter.timed_out()
            if quick:
                limiter.sample("k", 0.1)
            limiter.acquire()
            assert (limiter.limit < 32) == (falls and calls > 16), calls


def test_the_best_time_is_measured_anew_so_that_a_callee_may_become_slower() -> None:
    limiter = ConcurrencyLimiter(Rules(initial=8, minimum=4, maximum=64), lambda: 0.5)
    drive(limiter, workers=1000, service_s=0.001, rounds=20)
    drive(limiter, workers=1000, service_s=0.02, rounds=400)  # slower, but nothing queues
    assert limiter.limit == 64


def test_kinds_are_bounded() -> None:
    limiter = ConcurrencyLimiter(Rules(), lambda: 0.5)
    for kind in range(1000):
        limiter.sample(kind, 0.1)
    assert len(limiter._noload) <= 256


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limiter = ConcurrencyLimiter(Rules(initial=8, minimum=2, maximum=16), random.Random(7).random)
        self.taken = 0

    @rule()
    def acquire(self) -> None:
        room = self.limiter.has_room()
        assert self.limiter.acquire() == room
        self.taken += room

    @precondition(lambda self: self.taken)
    @rule(seconds=st.floats(0, 60), kind=st.integers(0, 3))
    def answer(self, seconds: float, kind: int) -> None:
        self.limiter.sample(kind, seconds)
        self.limiter.release()
        self.taken -= 1

    @precondition(lambda self: self.taken)
    @rule(kind=st.integers(0, 1))
    def drop(self, kind: int) -> None:
        if kind:
            self.limiter.timed_out()
        else:
            self.limiter.refused()
        self.limiter.release()
        self.taken -= 1

    @precondition(lambda self: self.taken)
    @rule()
    def cancel(self) -> None:
        self.limiter.release()
        self.taken -= 1

    @invariant()
    def bounds(self) -> None:
        assert 2 <= self.limiter.limit <= 16
        assert self.limiter.in_flight == self.taken <= 16


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, deadline=None)
