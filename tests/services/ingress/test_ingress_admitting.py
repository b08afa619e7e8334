"""Who may enter when there is more to do than can be done; how the limit follows what can be done."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.admission.admission_control import AdmissionControl
from services.ingress.config import Admission
from tests.services.ingress.ingress_asgi import ask, opened
from tests.services.ingress.ingress_calls import PREDICT
from tests.services.ingress.ingress_door import FakeRouter
from tests.services.ingress.test_ingress_admission_fairness import RULES, SharedServer, Traffic
from tests.services.waiting import until


def asked(capacity: float, rates: Mapping[tuple[str, int], float]) -> dict[str, list[Traffic]]:
    """So many requests per second of each (tenant, priority), before a server that manages `capacity` per second."""
    return {
        tenant: [Traffic(rate, 0.25, cost_s=1 / capacity, priority=priority)]
        for (tenant, priority), rate in rates.items()
    }


@pytest.mark.parametrize("rate", [50.0, 500.0, 5000.0])
def test_three_times_too_much_is_answered_in_time_as_far_as_it_can_be(rate: float) -> None:
    system, flood = SharedServer(), asked(rate, {("a", 1): 3 * rate})
    system.settle(4.0, flood, 4.0)
    assert system.answered.total() >= 0.9 * rate * 4.0
    assert system.late.total() <= 0.01 * system.answered.total()


def test_a_fresh_door_takes_over_from_a_busy_one() -> None:
    admission = AdmissionControl(Admission(), lambda: 0.0)
    assert all(admission.acquire("a", 1) for _ in range(150))


def test_high_priority_goes_first() -> None:
    system, flood = SharedServer(), asked(1000.0, {("low", 1): 3000.0, ("high", 5): 500.0})
    system.settle(2.0, flood, 4.0)
    assert system.refused["high"] <= 0.01 * 500 * 4
    assert system.refused["low"] > 0.5 * 3000 * 4


def test_a_greedy_tenant_does_not_take_the_places_of_modest_ones() -> None:
    system = SharedServer()
    flood = asked(1000.0, {("greedy", 1): 3000.0, **{(f"modest-{i}", 1): 100.0 for i in range(4)}})
    system.settle(2.0, flood, 4.0)
    assert sum(n for tenant, n in system.refused.items() if tenant != "greedy") <= 0.01 * 400 * 4


@pytest.mark.parametrize("priority", [1, 10])
def test_a_tenant_that_holds_all_it_may_leaves_room_for_the_next(priority: int) -> None:
    admission = AdmissionControl(RULES, lambda: 0.0)
    while admission.acquire("first", priority):
        pass  # none of them ends: half-sent messages
    assert sum(admission.acquire("second", priority) for _ in range(100)) >= 0.1 * RULES.initial


def test_the_limit_grows_again_when_the_system_does() -> None:
    system = SharedServer()
    system.run(4.0, asked(100.0, {("a", 1): 300.0}))
    system.settle(3.0, asked(2000.0, {("a", 1): 3000.0}), 2.0)
    assert system.answered.total() >= 0.9 * 2000 * 2


def test_after_an_outage_a_calm_system_takes_a_burst_again() -> None:
    system = SharedServer(Admission(initial=512, minimum=8, maximum=4096, goal=0.4))
    calm, outage = (asked(capacity, {("a", 1): 200.0}) for capacity in (1000.0, 20.0))
    system.run(1.0, calm)
    assert system.admission.limit == 512
    system.run(90.0, outage)  # next to nothing is in time
    assert system.admission.limit < 50
    system.free_at = 0.0
    system.settle(4.0, calm, 3.0)
    assert system.admission.limit == 512
    assert not system.refused


def test_there_is_room_for_whoever_may_enter_and_for_nobody_else() -> None:
    admission = AdmissionControl(RULES, lambda: 0.0)
    while room := admission.headroom("a", 1):
        assert admission.acquire("a", 1)
        assert admission.headroom("a", 1) <= room - 1
    assert not admission.acquire("a", 1)
    assert admission.headroom("b", 10) > 0
    assert admission.acquire("b", 10)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 10), st.booleans(), st.floats(0, 1)), max_size=300
    )
)
def test_counts_and_bounds_hold_whatever_happens(steps: list[tuple[str, int, bool, float]]) -> None:
    clock = iter(i / 100 for i in range(1_000_000))
    rules = Admission(initial=4, minimum=2, maximum=10, goal=0.5)
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


async def test_the_door_tells_it_who_asks_and_names_it_in_refusals(tmp_path: Path) -> None:
    slots = {"initial": 10, "minimum": 10, "maximum": 10}
    model, router = AdmissionControl(Admission(**slots), lambda: 0.0), FakeRouter(held=True)
    changed = {"demo": {"priority": 10}, "slow": {"limits": {}}}
    body = json.dumps({"pipeline": "double", "rows": [{"x": [1, 2], "n": 1}]}).encode()
    options: dict[str, Any] = {"admission": slots, "changed": changed, "deadline_ms": 60_000}
    async with opened(tmp_path, router, **options) as (application, keys, _):

        async def limiter(key: str) -> str:
            """Who refuses the call; "": it is answered."""
            headers = {"content-type": "application/json", "x-api-key": key}
            status, _, reply = await ask(application, PREDICT, body, headers)
            return (
                "" if status == 200 else str(json.loads(reply)["details"][0]["debug"]["metadata"]["limiter"])
            )

        calls, expected = list[asyncio.Task[str]](), Counter[str]()
        for tenant, priority, count in (("slow", 1, 14), ("regulated", 1, 5), ("demo", 10, 5)):
            admitted = sum(model.acquire(tenant, priority) for _ in range(count))
            # Somebody of each tenant has a slot, and nobody has all: what is shown below says something.
            assert 0 < admitted < count
            expected.update({"": admitted, "admission": count - admitted})
            calls.extend(asyncio.create_task(limiter(getattr(keys, tenant))) for _ in range(count))
            await until(lambda: sum(call.done() for call in calls) == expected["admission"])
        router.release()
        assert Counter(await asyncio.gather(*calls)) == expected
