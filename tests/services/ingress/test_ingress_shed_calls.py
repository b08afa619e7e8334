"""Which calls are refused before anything is made for them, and who is told how many they were."""

from dataclasses import dataclass, field

import pytest

from headrace.access.specs import QuotaSpec
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import ADMISSION, SESSION_ROWS, TENANT_ROWS
from services.ingress.admission.admission_control import AdmissionControl
from services.ingress.admission.quotas import QuotaFault
from services.ingress.admission.shedder import Shedder
from services.ingress.config import Admission
from services.ingress.documents.catalog import Credential, Tenant
from services.ingress.protocols.asgi import Headers
from services.ingress.reporting.metrics import Shed
from services.ingress.request_context import RequestContext, begin

TENANT = Tenant("demo", frozenset({"*"}), QuotaSpec(), 1)
OVERLOADED = ADMISSION.refusal("no room")
QUOTA = QuotaFault("demo", TENANT_ROWS, "1 row per second", wait=1.0, empty=True)
QUOTA_FOR_LARGE = QuotaFault("demo", TENANT_ROWS, "1 row per second", wait=1.0, empty=False)
TOO_LARGE = Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_TOO_LARGE, "too many rows")
WRONG = Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, "no x")
STATUS = [(b"grpc-status", b"8"), (b"grpc-message", b"no room")]


@dataclass
class Door:
    """A door with 70 places for anybody, at a made-up time."""

    now: float = 10.0
    told: list[Shed] = field(default_factory=list)
    admission: AdmissionControl = field(init=False)

    def __post_init__(self) -> None:
        self.admission = AdmissionControl(Admission(initial=100, minimum=100, maximum=100), lambda: self.now)
        self.shedder = Shedder(self.admission, lambda _, shed: self.told.append(shed), lambda: self.now)

    def fill(self, places: int = 70) -> None:
        for _ in range(places):
            assert self.admission.acquire("demo", 1)

    def refuses(self, fault: Fault, key: bytes = b"k") -> RequestContext:
        context = begin("ModelInfer", {b"x-api-key": key}, self.now, 0.0)
        context.credential = Credential(TENANT, "k", frozenset({"predict"}))
        self.shedder.refused(context, fault, STATUS)
        return context

    def passes(self, key: bytes = b"k", content_type: bytes = b"application/grpc") -> bool:
        return self.asked(key, content_type) is None

    def asked(self, key: bytes, content_type: bytes = b"application/grpc") -> Headers | None:
        headers = [(b"content-type", content_type), (b"x-request-id", b"r7"), (b"x-api-key", key)]
        return self.shedder.refusal(headers)


@pytest.mark.parametrize("fault", [QUOTA_FOR_LARGE, SESSION_ROWS.refusal("slower"), TOO_LARGE, WRONG])
def test_a_refusal_of_one_call_is_none_of_others(fault: Fault) -> None:
    door = Door()
    door.fill()
    door.refuses(fault)
    assert door.passes()


def test_other_credentials_and_other_protocols_pass() -> None:
    door = Door()
    door.fill()
    door.refuses(OVERLOADED)
    assert door.asked(b"k") == [*STATUS, (b"x-request-id", b"r7")]
    assert door.passes(b"other")
    assert door.passes(content_type=b"application/json")
    assert not door.passes()


def test_who_was_not_authenticated_is_not_known_here() -> None:
    door = Door()
    door.fill()
    context = begin("ModelInfer", {b"x-api-key": b"k"}, door.now, 0.0)
    door.shedder.refused(context, OVERLOADED, STATUS)
    assert door.passes()


def test_a_place_that_is_free_again_is_taken_at_once() -> None:
    door = Door()
    door.fill()
    door.refuses(OVERLOADED)
    assert not door.passes()
    for _ in range(30):
        door.admission.release("demo", 0.1, 1.0, overloaded=False)
    assert door.passes()


def test_a_call_passes_now_and_then_and_tells_how_many_did_not() -> None:
    door = Door()
    door.refuses(QUOTA)
    assert [door.passes() for _ in range(3)] == [False] * 3
    door.now += 0.021
    assert [door.passes() for _ in range(3)] == [True, False, False]
    assert door.told == [Shed(3, Reason.REASON_QUOTA_EXCEEDED)]
    # It was refused too.
    door.refuses(QUOTA)
    door.now += 0.021
    assert door.passes()
    assert door.told[1:] == [Shed(2, Reason.REASON_QUOTA_EXCEEDED)]


def test_an_answer_opens_the_way_for_all() -> None:
    door = Door()
    context = door.refuses(QUOTA)
    assert not door.passes()
    door.shedder.answered(context)
    assert door.passes()
    assert door.told == [Shed(1, Reason.REASON_QUOTA_EXCEEDED)]


def test_an_old_refusal_says_nothing() -> None:
    door = Door()
    door.refuses(QUOTA)
    assert not door.passes()
    door.now += 1.1
    assert all(door.passes() for _ in range(3))
    assert door.told == [Shed(1, Reason.REASON_QUOTA_EXCEEDED)]


def test_no_more_credentials_are_kept_than_there_may_be() -> None:
    door = Door()
    for i in range(20_001):
        door.refuses(QUOTA, b"%d" % i)
    assert len(door.shedder.refusals) <= 10_000
    assert not door.passes(b"20000")
