"""Sums of ticks: whatever is lost, doubled, late or restarted, every row counts once and no sum falls."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.ticks import LATENCY_BUCKETS, ArmFigures, ArmName, Tick
from services.monitoring.ticks import Ticks
from tests.services.clock import Clock

ARM = ArmName("flights", 3, "live")
CANARY = ArmName("flights", 3, "candidate")


def figures(rows: int, errors: int = 0) -> ArmFigures:
    return ArmFigures(rows, errors, (rows, *[0] * (LATENCY_BUCKETS - 1)))


def tick(epoch: int, sequence: int, base: int = 0, **arms: int) -> Tick:
    return Tick(
        epoch, sequence, base, {ArmName("flights", 3, arm): figures(rows) for arm, rows in arms.items()}
    )


def rows(ticks: Ticks, arm: str = "live") -> int:
    found = ticks.snapshot("flights").arms.get((3, arm))
    return 0 if found is None else found.rows


def test_the_newest_tick_of_each_router_counts() -> None:
    clock = Clock()
    ticks = Ticks(clock)
    for one in (tick(1, 1, live=5), tick(2, 1, live=7), tick(1, 2, 1, live=9), tick(1, 1, live=5)):
        assert not ticks.take(one)
    assert rows(ticks) == 16
    clock.now += 6
    ticks.take(tick(2, 2, 1, live=7))
    # One was silent for six seconds: it may have ended, but its counts are kept apart still.
    assert (ticks.routers(), ticks.routers(5)) == (2, 1)


def test_what_a_tick_leaves_out_has_not_changed_and_neither_a_late_tick_nor_a_lower_count_is_newer() -> None:
    ticks = Ticks(Clock())
    ticks.take(tick(1, 1, live=5, candidate=2))
    ticks.take(tick(1, 2, 1, candidate=3))
    assert (rows(ticks), rows(ticks, "candidate")) == (5, 3)
    ticks.take(tick(1, 5, 2, live=9))
    assert not ticks.take(tick(1, 3, live=9, candidate=4))
    assert not ticks.take(tick(1, 6, 5, live=2))
    assert (rows(ticks), rows(ticks, "candidate")) == (9, 3)


def test_a_service_that_lacks_ticks_says_so_until_it_has_everything() -> None:
    ticks = Ticks(Clock())
    assert ticks.take(tick(1, 8, 7, candidate=3))
    assert ticks.take(tick(1, 9, 8, candidate=4))
    assert not ticks.take(tick(1, 10, 0, live=5, candidate=4))
    assert not ticks.take(tick(1, 11, 10, live=6))
    assert (rows(ticks), rows(ticks, "candidate")) == (6, 4)


def test_old_releases_are_forgotten() -> None:
    ticks = Ticks(Clock())
    for number in range(1, 100):
        ticks.take(Tick(1, number, number - 1, {ArmName("flights", number, "live"): figures(1)}))
    numbers = {release for release, _ in ticks.snapshot("flights").arms}
    assert numbers == set(range(50, 100))


def test_rows_that_a_rule_sent_are_apart() -> None:
    ticks = Ticks(Clock())
    ticks.take(Tick(1, 1, 0, {ARM: figures(5), ARM._replace(by_rule=True): figures(7, 7)}))
    snapshot = ticks.snapshot("flights")
    assert (snapshot.arms, snapshot.by_rule) == ({(3, "live"): figures(5)}, {(3, "live"): figures(7, 7)})


def test_each_router_has_counts_of_its_own() -> None:
    ticks = Ticks(Clock())
    ticks.take(Tick(10, 1, 0, {ARM: figures(5), CANARY: figures(1), ARM._replace(by_rule=True): figures(7)}))
    ticks.take(Tick(11, 1, 0, {ARM._replace(release=4): figures(2), ArmName("other", 1, "live"): figures(9)}))
    assert ticks.by_epoch("flights") == {
        (10, 3): {"live": figures(5), "candidate": figures(1)},
        (11, 4): {"live": figures(2)},
    }


class Routers(RuleBasedStateMachine):
    """Routers that come and go, and a network that loses, doubles and delays their ticks."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.counted: Counter[int] = Counter()
        self.sequence: Counter[int] = Counter()
        self.received: Counter[int] = Counter()
        self.delayed: list[Tick] = []
        self.told: Counter[int] = Counter()
        self.next = 1
        self.seen = 0

    @initialize()
    def begin(self) -> None:
        self.ticks = Ticks(self.clock, silent_s=10.0)
        self.start()

    @rule()
    def start(self) -> None:
        self.counted[self.next] = 0
        self.next += 1

    @rule(which=st.integers(0, 99), rows=st.integers(1, 50))
    def count(self, which: int, rows: int) -> None:
        self.counted[1 + which % (self.next - 1)] += rows

    @rule(
        which=st.integers(0, 99),
        fate=st.sampled_from(["arrives", "arrives", "doubled", "late", "unanswered"]),
    )
    def report(self, which: int, fate: str) -> None:
        epoch = 1 + which % (self.next - 1)
        self.sequence[epoch] += 1
        one = tick(epoch, self.sequence[epoch], self.received[epoch], live=self.counted[epoch])
        if fate == "late":
            self.delayed.append(one)
            return
        behind = self.ticks.take(one)
        if fate == "doubled":
            self.ticks.take(one)
        self.told[epoch] = self.counted[epoch]
        if fate != "unanswered":
            self.received[epoch] = 0 if behind else self.sequence[epoch]

    @precondition(lambda self: self.delayed)
    @rule()
    def arrives_late(self) -> None:
        late = self.delayed.pop(0)
        self.ticks.take(late)
        self.told[late.epoch] = max(self.told[late.epoch], late.arms[ARM].rows)

    @rule()
    def time_passes(self) -> None:
        self.clock.now += 4.0

    @invariant()
    def every_row_that_was_told_counts_once(self) -> None:
        if hasattr(self, "ticks"):
            found = rows(self.ticks)
            assert found >= self.seen, "a sum fell"
            self.seen = found
            assert found == sum(self.told.values())


TestRouters = Routers.TestCase
TestRouters.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_ended_routers_are_summed_up_and_late_ticks_of_them_change_nothing() -> None:
    clock = Clock()
    ticks = Ticks(clock, silent_s=10.0)
    for epoch in range(1, 100):
        ticks.take(tick(epoch, 1, live=1))
        clock.now += 11.0
    assert rows(ticks) == 99
    assert ticks.routers() == 0
    assert not ticks.take(tick(1, 2, 1, live=50))
    assert rows(ticks) == 99
