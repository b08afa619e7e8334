"""What one tenant sends does not change how much the others may send: the limit follows the majority of the tenants."""

import heapq
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from unittest.mock import MagicMock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.admission.admission_control import AdmissionControl
from services.ingress.config import Admission
from services.ingress.door import Door

RULES = Admission(initial=64, minimum=8, maximum=4096, goal=0.4)


@dataclass(frozen=True)
class Traffic:
    """One tenant's requests. `own_s`: what a request takes besides `cost_s` of the one server that all tenants share."""

    rate: float
    allowed_s: float
    own_s: float = 0.0
    cost_s: float = 0.0
    priority: int = 1


@dataclass
class SharedServer:
    """Tenants before one server, first come first served. A request that takes longer than it is allowed ends then, late."""

    rules: Admission = RULES
    now: float = 0.0
    free_at: float = 0.0
    lowest: float = math.inf
    answered: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.admission = AdmissionControl(self.rules, lambda: self.now)
        self._random = random.Random(1)
        self._ends: list[tuple[float, int, str, float, Traffic]] = []
        self._serial = count()

    def run(self, seconds: float, tenants: Mapping[str, Sequence[Traffic]]) -> None:
        start = self.now
        arrivals = [
            (start + t, tenant, traffic)
            for tenant, all_traffic in tenants.items()
            for traffic in all_traffic
            for t in self._times(traffic.rate, seconds)
        ]
        for at, tenant, traffic in sorted(arrivals, key=lambda a: a[0]):
            self._end_until(at)
            if not self.admission.acquire(tenant, traffic.priority):
                self.refused[tenant] += 1
                continue
            if traffic.cost_s:
                self.free_at = max(self.free_at, at) + traffic.cost_s
            took = traffic.own_s + (self.free_at - at if traffic.cost_s else 0.0)
            end = at + min(took, traffic.allowed_s)
            heapq.heappush(self._ends, (end, next(self._serial), tenant, took, traffic))
        self._end_until(start + seconds)

    def settle(self, seconds: float, tenants: Mapping[str, Sequence[Traffic]], counted_s: float) -> None:
        """Runs until the limit is found, and then so long that what happens is counted."""
        self.run(seconds, tenants)
        self.forget()
        self.run(counted_s, tenants)

    def forget(self) -> None:
        for counter in (self.answered, self.late, self.refused):
            counter.clear()

    def _times(self, rate: float, seconds: float) -> list[float]:
        offset = self._random.random()
        return [(i + offset) / rate for i in range(int(rate * seconds))]

    def _end_until(self, at: float) -> None:
        while self._ends and self._ends[0][0] <= at:
            self.now, _, tenant, took, traffic = heapq.heappop(self._ends)
            late = took > traffic.allowed_s
            (self.late if late else self.answered)[tenant] += 1
            self.admission.release(tenant, min(took, traffic.allowed_s), traffic.allowed_s, overloaded=late)
            self.lowest = min(self.lowest, self.admission.limit)
        self.now = at


GOOD = Traffic(rate=100.0, allowed_s=1.0, own_s=0.02)
# All time out.
HURRIED = Traffic(rate=400.0, allowed_s=0.1, own_s=1.0)


def test_two_tenants_that_allow_too_little_time_do_not_keep_another_out() -> None:
    system = SharedServer()
    good = Traffic(rate=100.0, allowed_s=2.0, own_s=0.1)
    system.run(10.0, {"good": [good], "hostile": [HURRIED], "generous": [HURRIED]})
    assert system.lowest < RULES.initial / 2
    assert not system.refused["good"]


def test_a_tenant_that_was_alone_in_being_late_leaves_slots_for_the_next() -> None:
    system = SharedServer()
    system.run(5.0, {"hostile": [HURRIED]})
    system.settle(2.0, {"good": [GOOD], "hostile": [HURRIED]}, 5.0)
    assert not system.refused["good"]


def test_after_an_outage_one_late_tenant_does_not_keep_the_limit_small() -> None:
    system = SharedServer()
    system.run(5.0, {"good": [Traffic(rate=100.0, allowed_s=0.2, own_s=1.0)], "hostile": [HURRIED]})
    assert system.admission.limit < RULES.initial
    system.run(5.0, {"good": [GOOD], "hostile": [HURRIED]})
    assert system.admission.limit >= RULES.initial


def test_a_tenant_alone_that_allows_less_time_than_its_requests_usually_take_does_not_shrink_the_limit() -> (
    None
):
    system = SharedServer()
    system.run(1.0, {"only": [GOOD]})
    system.run(5.0, {"only": [Traffic(rate=400.0, allowed_s=0.015, own_s=0.02)]})
    assert system.late["only"] > 100
    assert system.lowest >= RULES.initial


def test_a_tenant_whose_requests_have_no_time_limit_has_no_vote() -> None:
    system = SharedServer()
    system.run(5.0, {"patient": [Traffic(rate=100.0, allowed_s=math.inf, own_s=0.02)], "hostile": [HURRIED]})
    assert system.admission.limit < RULES.initial


@st.composite
def hostile_mixes(draw: st.DrawFn) -> list[list[Traffic]]:
    """What one tenant sends in each of some seconds: any rates, deadlines and durations."""
    traffic = st.builds(
        Traffic,
        rate=st.sampled_from([1.0, 30.0, 300.0, 1000.0]),
        allowed_s=st.sampled_from([0.001, 0.05, 0.1, 0.5, 2.0]),
        own_s=st.sampled_from([0.0, 0.001, 0.04, 0.09, 0.4, 3.0]),
    )
    return draw(st.lists(st.lists(traffic, min_size=1, max_size=3), min_size=1, max_size=4))


@given(hostile_mixes(), st.integers(1, 3), st.floats(0.02, 0.35))
@example([[HURRIED]] * 4, 1, 0.35)
def test_whatever_one_tenant_sends_the_others_requests_get_a_slot(
    mixes: list[list[Traffic]], others: int, fraction: float
) -> None:
    """They use up to 35 % of their time by nature, and need a tenth of the slots."""
    system = SharedServer()
    rate = 0.1 * RULES.initial / others / fraction
    good = {f"good-{i}": [Traffic(rate=rate, allowed_s=1.0, own_s=fraction)] for i in range(others)}
    system.run(1.0, good)
    for mix in mixes:
        system.run(1.0, {**good, "hostile": mix})
    assert system.lowest >= RULES.initial
    assert {t for t in system.refused if t != "hostile"} == set()


def test_too_much_from_a_tenant_that_has_time_does_not_make_the_others_late() -> None:
    """The patient tenant's own requests use little of their time, but they are slowed as those of the others are."""
    system = SharedServer()
    modest = {"modest": [Traffic(rate=50.0, allowed_s=0.1, cost_s=0.001)]}
    system.run(2.0, {**modest, "patient": [Traffic(rate=100.0, allowed_s=1.0, cost_s=0.001)]})
    flood = {**modest, "patient": [Traffic(rate=3000.0, allowed_s=1.0, cost_s=0.001)]}
    system.settle(5.0, flood, 10.0)
    assert system.answered["modest"] >= 0.95 * 50.0 * 10.0
    assert system.answered["patient"] >= 0.8 * 950.0 * 10.0


def test_a_late_tenant_does_not_keep_the_limit_from_growing_with_what_another_needs() -> None:
    system = SharedServer()
    good = Traffic(rate=1000.0, allowed_s=1.0, own_s=0.1)
    system.settle(5.0, {"good": [good], "hostile": [HURRIED]}, 2.0)
    assert not system.refused["good"]


def test_the_limit_does_not_grow_for_one_tenant_while_another_is_slowed() -> None:
    """The hostile tenant hides its flood behind many more requests that do not wait for the server."""
    system = SharedServer()
    modest = {"modest": [Traffic(rate=50.0, allowed_s=0.1, cost_s=0.001)]}
    quick = Traffic(rate=4000.0, allowed_s=1.0, own_s=0.01)
    flood = {**modest, "hostile": [quick, Traffic(rate=1500.0, allowed_s=1.0, cost_s=0.001)]}
    system.run(2.0, {**modest, "hostile": [quick]})
    system.run(1.0, flood)
    system.forget()
    before = system.admission.limit
    system.run(2.0, flood)
    assert system.refused["hostile"] > 100
    assert system.admission.limit == before < RULES.maximum


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        (Code.INVALID_ARGUMENT, False),
        (Code.UNAVAILABLE, False),
        (Code.DEADLINE_EXCEEDED, True),
        (Code.CANCELLED, True),
    ],
)
def test_a_request_that_failed_for_another_reason_does_not_show_how_long_answers_take(
    code: Code, counts: bool
) -> None:
    unused, admission = MagicMock(), MagicMock(wraps=AdmissionControl(RULES, lambda: 0.0))
    door = Door({}, unused, unused, unused, unused, admission, 0.0, lambda: 0.0)
    context = door.begin("ModelInfer", {})
    assert admission.acquire("", 1)
    context.admission, context.whole, context.time_allowed = admission, True, 0.5
    door.refuse(context, Fault(code, Reason.REASON_UNSPECIFIED, "failed"))
    [(_, _, allowed, *_)] = [call.args for call in admission.release.call_args_list]
    assert allowed == (0.5 if counts else math.inf)
