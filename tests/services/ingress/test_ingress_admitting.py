"""Who may enter when there is more to do than can be done; how the limit follows what can be done."""

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.admission.admission_control import AdmissionControl, AdmissionRules
from services.ingress.config import Admission as AdmissionSettings

RULES = AdmissionRules(initial=64, minimum=8, maximum=4096, goal=0.4)


@dataclass
class Served:
    """A system of so many requests per second, first come first served, behind an admission; time is made up."""

    rate: float
    rules: AdmissionRules = RULES
    now: float = 0.0
    free_at: float = 0.0
    in_time: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.admission = AdmissionControl(self.rules, lambda: self.now)
        self._ends: list[tuple[float, float, str]] = []

    def run(
        self, asked: dict[tuple[str, int], float], seconds: float, allowed: float = 0.25, seed: int = 1
    ) -> None:
        """`asked`: requests per second of each (tenant, priority)."""
        random_ = random.Random(seed)
        until = self.now + seconds
        arrivals = [(self.now + t, who) for who, rate in asked.items() for t in times(random_, rate, seconds)]
        for at, (tenant, priority) in sorted(arrivals):
            self._until(at, allowed)
            if self.admission.acquire(tenant, priority):
                self.free_at = max(self.free_at, at) + 1 / self.rate
                heapq.heappush(self._ends, (self.free_at, at, tenant))
            else:
                self.refused[tenant] += 1
        self._until(until, allowed)

    def _until(self, at: float, allowed: float) -> None:
        while self._ends and self._ends[0][0] <= at:
            end, began, tenant = heapq.heappop(self._ends)
            self.now = end
            took = end - began
            self.in_time[tenant] += took <= allowed
            self.latencies.setdefault(tenant, []).append(took)
            self.admission.release(tenant, took, allowed, overloaded=took > allowed)
        self.now = at


def times(random_: random.Random, rate: float, seconds: float) -> list[float]:
    found, at = [], random_.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += random_.expovariate(rate)
    return found


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


@pytest.mark.parametrize("rate", [50.0, 500.0, 5000.0])
def test_three_times_too_much_is_answered_in_time_as_far_as_it_can_be(rate: float) -> None:
    system = Served(rate)
    system.run({("a", 1): 3 * rate}, 4.0)  # to find the limit
    before = system.in_time.total()
    system.run({("a", 1): 3 * rate}, 4.0, seed=2)
    assert system.in_time.total() - before >= 0.9 * rate * 4.0
    assert p99(system.latencies["a"][len(system.latencies["a"]) // 2 :]) <= 0.25


def test_below_the_capacity_nobody_is_refused() -> None:
    system = Served(1000.0)
    system.run({("a", 1): 700.0}, 5.0)
    assert not system.refused


def test_a_fresh_door_takes_over_from_a_busy_one() -> None:
    admission = AdmissionControl(AdmissionRules(**dict(AdmissionSettings())), lambda: 0.0)
    assert all(admission.acquire("a", 1) for _ in range(150))


def test_high_priority_goes_first() -> None:
    system = Served(1000.0)
    system.run({("low", 1): 3000.0, ("high", 5): 500.0}, 2.0)
    system.refused.clear()
    system.run({("low", 1): 3000.0, ("high", 5): 500.0}, 4.0, seed=2)
    assert system.refused["high"] <= 0.01 * 500 * 4
    assert system.refused["low"] > 0.5 * 3000 * 4


def test_a_greedy_tenant_does_not_take_the_places_of_modest_ones() -> None:
    system = Served(1000.0)
    asked = {("greedy", 1): 3000.0, **{(f"modest-{i}", 1): 100.0 for i in range(4)}}
    system.run(asked, 2.0)
    system.refused.clear()
    system.run(asked, 4.0, seed=2)
    assert sum(n for tenant, n in system.refused.items() if tenant != "greedy") <= 0.01 * 400 * 4


@pytest.mark.parametrize("priority", [1, 10])
def test_a_tenant_that_holds_all_it_may_leaves_room_for_the_next(priority: int) -> None:
    admission = AdmissionControl(RULES, lambda: 0.0)
    while admission.acquire("first", priority):
        pass  # none of them ends: half-sent messages
    assert sum(admission.acquire("second", priority) for _ in range(100)) >= 0.1 * RULES.initial


def test_the_limit_grows_again_when_the_system_does() -> None:
    system = Served(100.0)
    system.run({("a", 1): 300.0}, 4.0)
    system.rate = 2000.0
    system.run({("a", 1): 3000.0}, 3.0)
    before = system.in_time.total()
    system.run({("a", 1): 3000.0}, 2.0, seed=2)
    assert system.in_time.total() - before >= 0.9 * 2000 * 2


def test_after_an_outage_a_calm_system_takes_a_burst_again() -> None:
    system = Served(1000.0, AdmissionRules(initial=512, minimum=8, maximum=4096, goal=0.4))
    system.run({("a", 1): 200.0}, 1.0)
    assert system.admission.limit == 512
    system.rate = 20.0  # next to nothing is in time
    system.run({("a", 1): 200.0}, 90.0)
    assert system.admission.limit < 50
    system.rate, system.free_at = 1000.0, 0.0
    system.run({("a", 1): 200.0}, 4.0)
    system.refused.clear()
    system.run({("a", 1): 200.0}, 3.0)
    assert system.admission.limit == 512
    assert not system.refused


def test_callers_who_allow_hopelessly_little_time_press_nobody_else() -> None:
    system = Served(1000.0)
    system.run({("a", 1): 200.0}, 1.0)
    before = system.admission.limit
    # A request takes a millisecond, whatever else is going on.
    system.run({("hurried", 1): 100.0}, 2.0, allowed=0.0005)
    assert system.admission.limit == before


def test_there_is_room_for_whoever_may_enter_and_for_nobody_else() -> None:
    admission = AdmissionControl(RULES, lambda: 0.0)
    while room := admission.headroom("a", 1):
        assert admission.acquire("a", 1)
        assert admission.headroom("a", 1) <= room - 1
    assert not admission.acquire("a", 1)
    assert admission.headroom("b", 10) > 0
    assert admission.acquire("b", 10)


def test_requests_without_a_limit_in_time_do_not_shrink_it() -> None:
    admission = AdmissionControl(RULES, iter(range(100_000)).__next__)
    for _ in range(1000):
        assert admission.acquire("a", 1)
        admission.release("a", 1e6, math.inf, overloaded=False)
    assert admission.limit == RULES.initial


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 10), st.booleans(), st.floats(0, 1)), max_size=300
    )
)
def test_counts_and_bounds_hold_whatever_happens(steps: list[tuple[str, int, bool, float]]) -> None:
    clock = iter(i / 100 for i in range(1_000_000))
    rules = AdmissionRules(initial=4, minimum=2, maximum=10, goal=0.5)
    admission = AdmissionControl(rules, clock.__next__)
    inside: list[str] = []
    for tenant, priority, enters, took in steps:
        if enters or not inside:
            before = admission.in_flight
            if admission.acquire(tenant, priority):
                inside.append(tenant)
                assert before < admission.limit + 1
        else:
            admission.release(inside.pop(0), took, 1.0, overloaded=False)
        assert admission.in_flight == len(inside)
        assert rules.minimum <= admission.limit <= rules.maximum
    for tenant in inside:
        admission.release(tenant, 0.1, 1.0, overloaded=True)
    assert admission.in_flight == 0
    # Of an empty house anybody may be the first guest.
    assert admission.acquire("d", 1)


def test_beside_others_a_tenant_has_one_request_of_thousands_of_rows_at_a_time() -> None:
    admission = AdmissionControl(RULES, lambda: 0.0)
    extra = []
    assert admission.acquire("small", 1)
    for _ in range(8):
        assert admission.acquire("bulk", 1)
        extra.append(admission.widen("bulk", 1, 4096))
        if extra[-1] is None:
            admission.release("bulk", 0.1, 1.0, overloaded=False)
    assert extra == [28] + [None] * 7
    assert admission.acquire("small", 1)


def test_alone_a_tenant_is_not_held_back_for_its_rows() -> None:
    now = [100.0]
    admission = AdmissionControl(RULES, lambda: now[0])
    assert admission.acquire("small", 1)
    admission.release("small", 0.1, 1.0, overloaded=False)
    now[0] += 2.0
    assert admission.acquire("bulk", 1)
    now[0] += 2.0
    for _ in range(8):
        assert admission.acquire("bulk", 1)
        assert admission.widen("bulk", 1, 4096) == 0


def test_all_slots_of_a_request_are_given_back() -> None:
    admission = AdmissionControl(RULES, lambda: 0.0)
    assert admission.acquire("small", 1)
    assert admission.acquire("bulk", 1)
    assert admission.widen("bulk", 1, 320) == 10
    admission.release("bulk", 0.1, 1.0, overloaded=False, slots=11)
    assert admission.in_flight == 1
