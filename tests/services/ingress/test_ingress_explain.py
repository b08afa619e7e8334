"""Explanations at the door: what goes on to the router, what comes back, and every refusal before that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.services.ingress.ingress_calls import call, http, refused
from tests.services.ingress.ingress_door import FakeRouter, Folder

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/headrace.api.inference.v1.InferenceService/Explain"
ROW = {"x": [1.0, 2.0], "n": 1, "word": "a"}


def wanted(*rows: dict[str, Any], pipeline: str = "double", **fields: Any) -> pb.ExplainRequest:
    return ParseDict({"pipeline": pipeline, "rows": list(rows), **fields}, pb.ExplainRequest())


async def test_each_row_is_explained_over_grpc_and_json(door: Folder) -> None:
    reply = await call(
        door, PATH, wanted(ROW, {**ROW, "x": [0.25, 0.25]}, output="y", request_id="why"), pb.ExplainResponse
    )
    assert (reply.request_id, reply.pipeline) == ("why", "double")
    first, second = reply.rows
    assert (first.output, first.base, first.value, first.exact) == ("y", 2.0, 6.0, True)
    assert [(c.column, c.contribution) for c in second.contributions] == [("x", -1.0)]
    body = json.dumps({"pipeline": "double", "rows": [ROW]}).encode()
    status, _, content = await http(door, PATH, body, "content-type: application/json")
    assert status == 200
    # Values of columns are not told: a prediction does not show those of features either.
    assert json.loads(content)["rows"][0]["contributions"] == [{"column": "x", "contribution": 4}]


async def test_rows_to_explain_have_the_time_of_the_call(door: Folder, router: FakeRouter) -> None:
    body = json.dumps({"pipeline": "double", "rows": [ROW]}).encode()
    patient = ("content-type: application/json", "connect-timeout-ms: 3000000")
    status, _, _ = await http(door, PATH, body, *patient)
    assert status == 200
    # Many predictions are made for it: the pipeline's time for one is no measure.
    assert router.explain_s[-1] > 1000


@pytest.mark.parametrize(
    ("request_", "who", "code", "reason"),
    [
        (wanted(ROW), "operator", "PERMISSION_DENIED", "NOT_ALLOWED"),
        (wanted(ROW, pipeline="other"), "demo", "NOT_FOUND", "PIPELINE_UNKNOWN"),
        (wanted(*[ROW] * 9), "demo", "INVALID_ARGUMENT", "TOO_LARGE"),
        (wanted({"x": [1.0, 2.0]}), "demo", "INVALID_ARGUMENT", "INPUT_MISSING"),
        (wanted({**ROW, "y": 1.0}), "demo", "INVALID_ARGUMENT", "INPUT_UNKNOWN"),
        (wanted(), "demo", "INVALID_ARGUMENT", "INPUT_MISSING"),
    ],
    ids=["scope", "pipeline", "rows", "missing", "unknown", "none"],
)
async def test_what_can_not_be_asked_is_refused(
    door: Folder, request_: pb.ExplainRequest, who: str, code: str, reason: str
) -> None:
    found = await refused(door, PATH, request_, pb.ExplainResponse, key=getattr(door.keys, who))
    assert found[:2] == (code, reason)
