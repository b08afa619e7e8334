"""Outcomes at the door: what is taken, over which protocols, and every refusal."""

import math
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.access.specs import QuotaSpec
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.api.monitoring.v1 import monitoring_pb2 as stored_pb
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.documents.catalog import Credential, Tenant
from services.ingress.predict.outcomes import OutcomesServicer
from services.ingress.request_context import RequestContext, begin
from tests.services.ingress.ingress_calls import PREDICT, call, post
from tests.services.ingress.ingress_door import Folder, running

on_the_door = pytest.mark.asyncio(loop_scope="session")
PATH = "/headrace.api.inference.v1.InferenceService/RecordOutcomes"
NOW = 1_800_000_000.0


def good(**fields: Any) -> pb.Outcome:
    values = {"request_id": "r-1", "name": "late", "label": True, **fields}
    return pb.Outcome(**{name: value for name, value in values.items() if value is not None})


class Stored:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[stored_pb.RecordOutcomesRequest, float]] = []

    async def record(
        self, request: stored_pb.RecordOutcomesRequest, /, *, deadline: float, **_: Any
    ) -> stored_pb.RecordOutcomesResponse:
        self.given.append((request, deadline))
        return stored_pb.RecordOutcomesResponse(accepted_count=len(request.outcomes), unknown_count=1)


def context(deadline: float = math.inf) -> RequestContext:
    found = begin("RecordOutcomes", {}, 100.0, 0.0)
    found.credential = Credential(Tenant("acme", frozenset(), QuotaSpec(), 1), "k", frozenset({"outcomes"}))
    found.deadline = deadline
    return found


async def record(*outcomes: pb.Outcome, stored: Stored | None = None, deadline: float = math.inf) -> int:
    servicer = OutcomesServicer((stored or Stored()).record, lambda: NOW)
    reply = await servicer.RecordOutcomes(pb.RecordOutcomesRequest(outcomes=outcomes), context(deadline))
    assert reply.unknown_count == 1
    return reply.accepted_count


async def test_outcomes_go_on_under_the_callers_tenant_with_its_deadline() -> None:
    stored = Stored()
    at = Timestamp(seconds=50, nanos=500_000_000)
    labelled, measured = good(), good(label=None, number=2.5, row=3, time=at)
    assert await record(labelled, measured, stored=stored) == 2
    await record(labelled, stored=stored, deadline=101.5)
    first = stored_pb.Outcome(request_id="r-1", name="late", label=True)
    second = stored_pb.Outcome(request_id="r-1", row=3, name="late", number=2.5, time=at)
    assert stored.given == [
        (stored_pb.RecordOutcomesRequest(tenant="acme", outcomes=[first, second]), 105.0),
        (stored_pb.RecordOutcomesRequest(tenant="acme", outcomes=[first]), 101.5),
    ]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 1025}, "request_id"),
        ({"name": ""}, "name"),
        ({"name": "9"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "a\n"}, "name"),
        ({"label": None}, "label"),
        ({"label": None, "number": math.nan}, "number"),
        ({"label": None, "number": math.inf}, "number"),
        ({"label": None, "number": 0.7, "name": "wrong"}, "number"),
        ({"time": Timestamp(seconds=-1)}, "time"),
        ({"time": Timestamp(seconds=int(NOW) + 90_000)}, "time"),
    ],
)
async def test_an_unusable_outcome_is_named_and_nothing_is_stored(wrong: dict[str, Any], field: str) -> None:
    stored = Stored()
    with pytest.raises(Fault) as raised:
        await record(good(), good(**wrong), stored=stored)
    fault = raised.value
    assert (fault.code, fault.reason) == (Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST)
    assert fault.metadata["field"] == f"outcomes[1].{field}"
    assert stored.given == []


async def test_a_thousand_are_taken_at_most_and_one_at_least() -> None:
    assert await record(*[good()] * 1000) == 1000
    with pytest.raises(Fault) as raised:
        await record(*[good()] * 1001)
    assert (raised.value.reason, raised.value.metadata["limit"]) == (Reason.REASON_TOO_LARGE, "1000")
    with pytest.raises(Fault) as raised:
        await record()
    assert raised.value.metadata["field"] == "outcomes"


async def test_a_door_without_a_store_says_so() -> None:
    with pytest.raises(Fault) as raised:
        await OutcomesServicer(None, lambda: NOW).RecordOutcomes(
            pb.RecordOutcomesRequest(outcomes=[good()]), context()
        )
    assert raised.value.code is Code.FAILED_PRECONDITION


@on_the_door
async def test_unusable_json_is_refused(door: Folder) -> None:
    for outcome in ({"requestId": "r", "name": "late", "number": "NaN"}, {"requestId": 5}, "text"):
        status, error = await post(door, PATH, {"outcomes": [outcome]})
        assert (status, error["code"]) == (400, "invalid_argument")


@on_the_door
async def test_calls_are_charged_to_the_tenant(door: Folder) -> None:
    request = pb.RecordOutcomesRequest(outcomes=[good(request_id="charged")])
    answers = []
    for _ in range(3):
        try:
            await call(door, PATH, request, pb.RecordOutcomesResponse, key=door.keys.reporting)
            answers.append("OK")
        except grpc.aio.AioRpcError as error:
            answers.append(error.code().name)
    assert "RESOURCE_EXHAUSTED" in answers


async def test_without_the_service_outcomes_are_refused_and_predictions_are_not(tmp_path: Path) -> None:
    async with running(
        tmp_path,
        monitoring={"target": f"unix:{tmp_path / 'nobody.sock'}"},
        # As many outcomes as are taken, in JSON's form, are larger than other messages that are not inferences.
        limits={"max_request_bytes": 1 << 20, "max_rows": 100},
    ) as process:
        folder = process.folder
        outcomes = [{"requestId": f"{i:064d}", "name": "late", "label": True} for i in range(1000)]
        status, error = await post(folder, PATH, {"outcomes": outcomes})
        assert (status, error["code"]) == (503, "unavailable")
        assert error["details"][0]["debug"]["reason"] in ("UNREACHABLE", "BREAKER_OPEN")
        rows = [{"x": [1.0, 2.0], "n": 1}]
        assert (await post(folder, PREDICT, {"pipeline": "double", "rows": rows}))[0] == 200
