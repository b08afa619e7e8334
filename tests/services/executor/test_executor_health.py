"""Which backend runs: over arbitrary histories of losses, recoveries and time."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.executor.failover.health import GOOD_PROBES, LATE_RUNS, LONGEST_S, GroupHealth

WHICH = st.integers(0, 2)


class Histories(RuleBasedStateMachine):
    """Three backends; a naive model knows which of them are lost."""

    def __init__(self) -> None:
        super().__init__()
        self.health = GroupHealth(3, 1.0)
        self.lost: set[int] = set()
        self.late = [0, 0, 0]
        self.good = [0, 0, 0]
        self.now = 100.0

    def expected(self) -> int:
        return min({0, 1, 2} - self.lost, default=self.health.active)

    def lose(self, which: int) -> None:
        self.lost.add(which)
        self.late[which] = self.good[which] = 0

    @rule(which=WHICH)
    def a_loss(self, which: int) -> None:
        before = self.health.active
        switched = self.health.lost(which, self.now)
        if which not in self.lost:
            self.lose(which)
        assert switched == (self.health.active != before)

    @rule(which=WHICH)
    def a_late_run(self, which: int) -> None:
        self.health.late(which, self.now)
        self.late[which] += 1
        if self.late[which] >= LATE_RUNS and which not in self.lost:
            self.lose(which)

    @rule(which=WHICH)
    def a_good_run(self, which: int) -> None:
        if which == self.health.active:
            self.lost.discard(which)
        self.health.ran(which)
        self.late[which] = 0

    @rule(seconds=st.floats(0.1, 20))
    def time(self, seconds: float) -> None:
        self.now += seconds

    @rule(good=st.booleans())
    def probes(self, good: bool) -> None:
        for which in self.health.to_probe(self.now):
            assert which in self.lost
            self.health.probed(which, good=good, now=self.now)
            self.good[which] = self.good[which] + 1 if good else 0
            if self.good[which] >= GOOD_PROBES:
                self.lost.discard(which)

    @invariant()
    def the_first_that_is_well_runs(self) -> None:
        assert {i for i in range(3) if self.health.is_lost(i)} == self.lost
        assert self.health.active == self.expected() or not {0, 1, 2} - self.lost
        at = self.health.probe_at()
        assert (at is None) == (not self.lost)
        # Nobody is forgotten: the next try is never further off than the longest wait.
        assert at is None or at <= self.now + LONGEST_S
        assert self.health.all_healthy == (not self.lost and not any(self.late))


Histories.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase


def test_whoever_is_lost_soon_after_coming_back_waits_longer() -> None:
    health = GroupHealth(2, 1.0)
    waits, now = [], 0.0
    for _ in range(4):
        health.lost(0, now)
        at = health.probe_at()
        assert at is not None
        waits.append(at - now)
        now = at
        for _ in range(GOOD_PROBES):
            health.probed(0, good=True, now=now)
    assert waits == [1.0, 2.0, 4.0, 8.0]
