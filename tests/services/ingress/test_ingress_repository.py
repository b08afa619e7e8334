"""What a real door sends on: the model repository, by gRPC and REST, and explanations; and every refusal before that."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import OIP, call, http, post, refused
from tests.services.ingress.ingress_door import FakeRouter, Folder

pytestmark = pytest.mark.asyncio(loop_scope="session")
REPOSITORY = "/v2/repository"
LOAD, UNLOAD = oip.RepositoryModelLoadRequest, oip.RepositoryModelUnloadRequest
PATH = "/headrace.api.inference.v1.InferenceService/Explain"
ROW = {"x": [1.0, 2.0], "n": 1, "word": "a"}


def rpc(request: Any) -> tuple[str, Any, Any]:
    """The path of the method whose request this is, the request, the type of the reply."""
    name = type(request).__name__.removesuffix("Request")
    return OIP + name, request, getattr(oip, f"{name}Response")


async def test_the_index_in_tritons_words(door: Folder) -> None:
    index = await call(door, *rpc(oip.RepositoryIndexRequest()), key=door.keys.operator)
    assert [(m.name, m.version, m.state, m.reason) for m in index.models] == [
        ("doubler", "1", "READY", ""),
        ("doubler", "2", "READY", "asleep; the next call wakes it"),
        ("doubler", "3", "LOADING", "warming up onnxruntime"),
        ("doubler", "4", "UNAVAILABLE", "unloaded"),
    ]
    status, listed = await post(door, f"{REPOSITORY}/index", {"ready": True}, door.keys.operator)
    assert status == 200
    assert [m["version"] for m in listed] == ["1", "2"]
    _, _, everything = await http(door, f"{REPOSITORY}/index", b"", key=door.keys.operator)
    assert len(json.loads(everything)) == 4


async def test_load_and_unload_reach_the_router_with_the_operator(door: Folder, router: FakeRouter) -> None:
    key = door.keys.operator
    router.asked.clear()
    await call(door, *rpc(LOAD(model_name="doubler:2")), key=key, timeout=120)
    unload = UNLOAD(model_name="doubler")
    unload.parameters["unload_dependents"].bool_param = True
    await call(door, *rpc(unload), key=key, timeout=120)
    assert await post(door, f"{REPOSITORY}/models/doubler:champion/load", {}, key) == (200, None)
    body = {"parameters": {"unload_dependents": False}}
    assert await post(door, f"{REPOSITORY}/models/doubler/unload", body, key) == (200, None)
    assert router.asked == [
        "load doubler:2 for operator within 2 min",
        "unload doubler: for operator within 2 min",
        # Who sets no deadline has ten minutes.
        "load doubler:champion for operator within 10 min",
        "unload doubler: for operator within 10 min",
    ]


async def test_a_refusal_of_the_executor_comes_through(door: Folder) -> None:
    key = door.keys.operator
    told = await refused(door, *rpc(LOAD(model_name="doubler:altered")), key=key)
    assert told == ("FAILED_PRECONDITION", "MODEL_UNTRUSTED", "it was altered")
    status, answer = await post(door, f"{REPOSITORY}/models/doubler:altered/load", {}, key)
    assert (status, answer["code"], answer["reason"]) == (400, "FAILED_PRECONDITION", "MODEL_UNTRUSTED")
    assert answer["metadata"] == {"model": "doubler", "version": "altered"}


@pytest.mark.parametrize("name", ["", ":", "doubler:", ":2"])
async def test_a_name_that_is_none(door: Folder, router: FakeRouter, name: str) -> None:
    router.asked.clear()
    code, reason, message = await refused(door, *rpc(LOAD(model_name=name)), key=door.keys.operator)
    assert (code, reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    assert "NAME:VERSION" in message
    assert router.asked == []


async def test_a_model_can_not_be_brought_along(door: Folder, router: FakeRouter) -> None:
    router.asked.clear()
    key = door.keys.operator
    request = LOAD(model_name="doubler")
    request.parameters["config"].string_param = "{}"
    code, reason, message = await refused(door, *rpc(request), key=key)
    assert (code, reason) == ("INVALID_ARGUMENT", "NOT_ALLOWED")
    assert "headrace models add" in message
    file = {"parameters": {"file:1/model.onnx": "AAAA"}}
    status, _ = await post(door, f"{REPOSITORY}/models/doubler/load", file, key)
    assert status == 400
    assert router.asked == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{REPOSITORY}/index", {"ready": "yes"}),
        (f"{REPOSITORY}/models/doubler/load", []),
        (f"{REPOSITORY}/models/doubler/load", {"parameters": 3}),
    ],
)
async def test_a_body_that_makes_no_sense(door: Folder, path: str, body: object) -> None:
    status, answer = await post(door, path, body, door.keys.operator)
    assert (status, answer["reason"]) == (400, "MALFORMED_REQUEST")


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
    status, explained = await post(door, PATH, {"pipeline": "double", "rows": [ROW]})
    assert status == 200
    # Values of columns are not told: a prediction does not show those of features either.
    assert explained["rows"][0]["contributions"] == [{"column": "x", "contribution": 4}]


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
