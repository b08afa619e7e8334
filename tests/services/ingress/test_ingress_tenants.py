"""What one tenant may have of the door, seen by its callers: rows, different questions, digits; and the security log."""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import (
    JSON,
    OIP,
    PREDICT,
    bearer,
    call,
    http,
    infer,
    infer_refused,
    post,
    refused,
    unary,
)
from tests.services.ingress.ingress_door import Folder, infer_request
from tests.services.waiting import until

FORGED = "6.6.6.6"
pytestmark = pytest.mark.asyncio(loop_scope="session")


def security_lines(door: Folder) -> list[dict[str, Any]]:
    path = Path(door.settings["security"]["file"])
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def events(door: Folder, kind: str, **wanted: str) -> list[dict[str, Any]]:
    """Those of the security log, as soon as there is one."""

    def found() -> list[dict[str, Any]]:
        return [e for e in security_lines(door) if e["kind"] == kind and wanted.items() <= e.items()]

    await until(found, what=f"no {kind} with {wanted}")
    return found()


async def test_rows_are_what_a_quota_counts(door: Folder) -> None:
    key = door.keys.rowwise
    one, six = infer_request([[1, 2]], [1]), infer_request([[1, 2]] * 6, [1] * 6)
    await infer(door, six, key=key)
    code, reason, message = await infer_refused(door, six, key=key)
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert "0.01 rows per second" in message
    for _ in range(4):
        await infer(door, one, key=key)  # what is left
    assert (await infer_refused(door, one, key=key))[1] == "QUOTA_EXCEEDED"
    # The same bucket, whatever the protocol.
    request = pb.PredictRequest(pipeline="double")
    request.rows.add().update({"x": [1, 2], "n": 1})
    assert (await refused(door, PREDICT, request, pb.PredictResponse, key=key))[1] == "QUOTA_EXCEEDED"
    body = json.dumps({"pipeline": "double", "rows": [{"x": [1, 2], "n": 1}]}).encode()
    status, headers, _ = await http(door, PREDICT, body, JSON, key=key)
    assert (status, int(headers["retry-after"]) > 1) == (429, True)


async def test_different_questions_have_a_budget_and_the_same_ones_are_free(door: Folder) -> None:
    key = door.keys.budgeted
    asked = [infer_request([[i, 2]], [1]) for i in range(6)]
    for request in asked[:5]:
        await infer(door, request, key=key)
    code, reason, message = await infer_refused(door, asked[5], key=key)
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "QUERY_BUDGET_EXCEEDED")
    assert "5 different rows per day (UTC) of pipeline double" in message
    for _ in range(3):
        await infer(door, asked[4], key=key)
    # The same question in another form is the same, and another one is refused in every form.
    for number, wanted in ((3.0, 200), (77.0, 429)):
        body = {"pipeline": "double", "rows": [{"x": [number, 2], "n": 1}]}
        status, reply = await post(door, PREDICT, body, key)
        assert status == wanted, reply
    [refusal, *_] = await events(door, "extraction_guard", tenant="budgeted")
    assert (refusal["pipeline"], refusal["budget"]) == ("double", "5")
    assert await events(door, "extraction_warning", tenant="budgeted")


@pytest.mark.parametrize("tls", [False, True])
async def test_a_refused_credential_is_logged_with_the_address_that_envoy_saw(
    door: Folder, tls: bool
) -> None:
    identity = f"attack-{tls}"
    status, _, _ = await http(
        door,
        "/v2/models/double",
        None,
        f"x-forwarded-for: {FORGED}",
        f"x-request-id: {identity}",
        key="hr_11111111_wrong",
        tls=tls,
    )
    assert status == 401
    [event] = await events(door, "unknown_key", request_id=identity)
    # Envoy shows who calls from the machine itself with the machine's own address.
    assert str(ip_address(event["client"])) != FORGED
    assert (event["tenant"], event["key"], event["method"]) == ("", "11111111", "ModelMetadata")
    assert "wrong" not in json.dumps(event)


async def test_a_forbidden_pipeline_is_in_the_file_with_tenant_and_key(door: Folder) -> None:
    request = infer_request([[1, 2]], [1], id="forbidden-1")
    assert (await infer_refused(door, request, key=door.keys.other))[0] == "PERMISSION_DENIED"
    [event] = await events(door, "denied", request_id="forbidden-1")
    wanted = ("other", door.keys.other.split("_")[1], "ModelInfer", "double")
    assert tuple(event[k] for k in ("tenant", "key", "method", "pipeline")) == wanted
    assert ip_address(event["client"])


async def test_who_goes_on_beyond_its_quota_is_in_the_file(door: Folder) -> None:
    request = infer_request([[1, 2]], [1])
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        method = unary(channel, OIP + "ModelInfer", oip.ModelInferResponse)
        key = (bearer(door, door.keys.reporting),)
        for _ in range(2):  # a minute may end between them
            codes = [
                await one.code() for one in [method(request, timeout=20, metadata=key) for _ in range(150)]
            ]
            assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    [event, *_] = await events(door, "quota_abuse", tenant="reporting")
    assert int(event["refused"]) >= 100
    assert ip_address(event["client"])


async def test_numbers_leave_with_the_digits_of_the_document(door: Folder) -> None:
    request = infer_request([[0.123, 5]], [1])
    request.model_name = "coarse"
    reply = await call(door, OIP + "ModelInfer", request, oip.ModelInferResponse)
    assert np.frombuffer(reply.raw_output_contents[0], np.float32).tolist() == [np.float32(0.2), 10]
    rows = pb.PredictRequest(pipeline="coarse")
    rows.rows.add().update({"x": [0.123, 5], "n": 1})
    predicted = await call(door, PREDICT, rows, pb.PredictResponse)
    assert predicted.predictions[0].outputs["y"][0] == 0.2
    plain = await infer(door, infer_request([[0.123, 5]], [1]))
    assert np.frombuffer(plain.raw_output_contents[0], np.float32)[0] == np.float32(0.123) * 2
