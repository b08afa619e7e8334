"""What Envoy is told of the room at the door, and of whom it was seen that they came. Who waits for a body waits no longer
than it may, and hears of every other cancellation."""

import asyncio
import math
from dataclasses import dataclass, field

import pytest

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import ADMISSION, SESSION_ROWS, TENANT_ROWS
from headrace.state.tenants import QuotaSpec
from services.ingress.admission.admission_control import AdmissionControl, AdmissionRules
from services.ingress.admission.quotas import QuotaFault
from services.ingress.config import Limits
from services.ingress.documents.catalog import Credential, Tenant
from services.ingress.protocols.body.bodies import Bodies
from services.ingress.protocols.grpc.unary import HEADER, Gates
from services.ingress.reporting.metrics import Shed
from services.ingress.request_context import RequestContext, begin
from tests.services.clock import Clock

TENANT = Tenant("demo", frozenset({"*"}), QuotaSpec(), 1)
OVERLOADED = ADMISSION.refusal("no room")
QUOTA = QuotaFault("demo", TENANT_ROWS, "1 row per second", wait=1.0, empty=True)
QUOTA_FOR_LARGE = QuotaFault("demo", TENANT_ROWS, "1 row per second", wait=1.0, empty=False)
TOO_LARGE = Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_TOO_LARGE, "too many rows")
WRONG = Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, "no x")


@dataclass
class Door:
    """A door with 70 places for anybody, at a made-up time."""

    now: float = 0.0
    admission: AdmissionControl = field(init=False)

    def __post_init__(self) -> None:
        self.admission = AdmissionControl(AdmissionRules(100, 100, 100, 0.4), lambda: self.now)
        self.gates = Gates(self.admission, lambda: self.now)

    def comes(self, header: bytes | None) -> tuple[RequestContext, Shed | None]:
        context = begin("ModelInfer", {} if header is None else {HEADER: header}, self.now, 0.0)
        context.credential = Credential(TENANT, "k", frozenset({"predict"}))
        return context, self.gates.come(context)

    def fill(self, places: int) -> None:
        for _ in range(places):
            assert self.admission.acquire("demo", 1)


@pytest.mark.parametrize(
    ("places", "header", "refusal"),
    [
        pytest.param(30, b"w.1 5 0", None, id="there is room"),
        pytest.param(70, None, OVERLOADED, id="without Envoy's filter"),
        pytest.param(70, b"w.1 1 0", QUOTA_FOR_LARGE, id="a smaller call would pass"),
        pytest.param(70, b"w.1 1 0", SESSION_ROWS.refusal("slower"), id="one session's limit"),
        pytest.param(70, b"w.1 1 0", TOO_LARGE, id="too large a message"),
        pytest.param(0, b"w.1 1 0", WRONG, id="no lack of room"),
    ],
)
def test_envoy_is_not_to_refuse_others(places: int, header: bytes | None, refusal: Fault | None) -> None:
    door = Door()
    door.fill(places)
    context, shed = door.comes(header)
    assert shed is None
    assert door.gates.told(context, refusal) == []


def test_a_crowded_door_sends_its_room_and_the_newest_call() -> None:
    door = Door()
    door.fill(60)
    first, _ = door.comes(b"w.1 5 0")
    door.comes(b"w.1 7 0")
    door.comes(b"w.1 6 0")
    assert door.gates.told(first) == [(HEADER, b"w.1 7 10")]
    door.fill(10)
    assert door.gates.told(first, OVERLOADED) == [(HEADER, b"w.1 7 0")]


def test_each_gate_has_calls_of_its_own() -> None:
    door = Door()
    door.fill(70)
    one, _ = door.comes(b"w.1 500 0")
    other, _ = door.comes(b"w.2 3 0")
    assert door.gates.told(one) == [(HEADER, b"w.1 500 0")]
    assert door.gates.told(other) == [(HEADER, b"w.2 3 0")]


def test_plenty_is_sent_once_and_only_when_nobody_was_refused_for_a_second() -> None:
    door = Door()
    door.fill(70)
    context, _ = door.comes(b"w.1 1 0")
    assert door.gates.told(context, OVERLOADED) == [(HEADER, b"w.1 1 0")]
    for _ in range(70):
        door.admission.release("demo", 0.1, 1.0, overloaded=False)
    door.now = 0.9
    assert door.gates.told(context) == [(HEADER, b"w.1 1 70")]
    context, shed = door.comes(b"w.1 2 17")  # refused meanwhile by Envoy
    assert shed == Shed(17, Reason.REASON_OVERLOADED)
    door.now = 1.8
    assert door.gates.told(context) == [(HEADER, b"w.1 2 70")]
    door.now = 2.0
    assert door.gates.told(context) == [(HEADER, b"w.1 2 -")]
    assert door.gates.told(context) == []


def test_who_has_used_up_a_quota_has_no_room_however_empty_the_door() -> None:
    door = Door()
    context, _ = door.comes(b"w.1 1 0")
    assert door.gates.told(context, QUOTA) == [(HEADER, b"w.1 1 0")]


def test_calls_that_envoy_refused_bear_the_reason_of_the_refusal_it_repeated() -> None:
    door = Door()
    door.fill(70)
    context, _ = door.comes(b"w.1 1 0")
    other, _ = door.comes(b"w.2 1 0")
    door.gates.told(context, QUOTA)
    door.gates.told(other, OVERLOADED)
    assert door.comes(b"w.1 2 5")[1] == Shed(5, Reason.REASON_QUOTA_EXCEEDED)
    assert door.comes(b"w.2 2 6")[1] == Shed(6, Reason.REASON_OVERLOADED)


def context(deadline: float = math.inf, **headers: str) -> RequestContext:
    made = begin(
        "Predict", {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()}, 100.0, 0.0
    )
    made.deadline = deadline
    return made


async def never() -> dict[str, object]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_the_sooner_of_the_callers_deadline_and_our_own_ends_it() -> None:
    for deadline, allowed, says in ((100.2, 0.2, "its deadline"), (math.inf, 30.0, "30 s")):
        clock = Clock(100.0)
        bodies = Bodies(Limits(), clock)
        task = asyncio.create_task(bodies.read(never, context(deadline), 1000))
        await asyncio.sleep(0.12)
        assert not task.done()
        clock.now += allowed
        with pytest.raises(Fault, match=says) as caught:
            await task
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert not task.cancelled()


async def test_somebody_elses_cancellation_goes_on() -> None:
    task = asyncio.create_task(Bodies(Limits(), Clock(100.0)).read(never, context(), 1000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_are_a_cancellation() -> None:
    clock = Clock(100.0)
    task = asyncio.create_task(Bodies(Limits(), clock).read(never, context(100.1), 1000))
    await asyncio.sleep(0)
    clock.now += 1
    asyncio.get_running_loop().call_later(0.04, task.cancel)
    # Our look comes at 0.05 s, after the other one.
    with pytest.raises((asyncio.CancelledError, Fault)):
        await task
    assert task.done()


async def test_nothing_stays_behind() -> None:
    clock, pieces = Clock(100.0), [b"ab", b"cd", b""]
    bodies = Bodies(Limits(), clock)

    async def receive() -> dict[str, object]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    assert await bodies.read(receive, context(), 4) == b"abcd"
    pieces += [b"abc", b"de", b"f"]
    with pytest.raises(Fault):
        await bodies.read(receive, context(), 4)
    assert (bodies._arriving, dict(bodies._of), len(bodies._timeouts._timeouts)) == (0, {}, 0)


async def test_a_body_that_announces_little_too_much_is_read_and_one_of_much_is_not() -> None:
    read = 0

    async def receive() -> dict[str, object]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 50, "more_body": read % 3 != 0}

    bodies = Bodies(Limits(), Clock(100.0))
    for announced, pieces in ((150, 3), (1500, 0)):
        read = 0
        with pytest.raises(Fault) as caught:
            await bodies.read(receive, context(content_length=str(announced)), 100)
        assert (caught.value.code, read) == (Code.RESOURCE_EXHAUSTED, pieces)
    with pytest.raises(Fault, match="content-length"):
        await bodies.read(receive, context(content_length="-1"), 100)
