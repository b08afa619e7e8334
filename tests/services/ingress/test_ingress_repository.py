"""The model repository at the door: operators say which models are loaded, nobody else, over gRPC and REST."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import OIP, call, http, refused
from tests.services.ingress.ingress_door import FakeRouter, Folder

pytestmark = pytest.mark.asyncio(loop_scope="session")
REPOSITORY = "/v2/repository"
LOAD, UNLOAD = oip.RepositoryModelLoadRequest, oip.RepositoryModelUnloadRequest
RPCS: list[Any] = [oip.RepositoryIndexRequest(), LOAD(model_name="doubler"), UNLOAD(model_name="doubler")]
PATHS = [f"{REPOSITORY}/index", f"{REPOSITORY}/models/doubler/load", f"{REPOSITORY}/models/doubler/unload"]


async def post(door: Folder, path: str, body: object, key: str) -> tuple[int, Any]:
    text = b"" if body is None else json.dumps(body).encode()
    status, _, content = await http(door, path, text, key=key)
    return status, json.loads(content) if content else None


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
    _, everything = await post(door, f"{REPOSITORY}/index", None, door.keys.operator)
    assert len(everything) == 4


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


@pytest.mark.parametrize("who", ["demo", "other", "readonly"])
async def test_nobody_but_an_operator_is_let_through(door: Folder, router: FakeRouter, who: str) -> None:
    router.asked.clear()
    key = getattr(door.keys, who)
    for request in RPCS:
        code, reason, message = await refused(door, *rpc(request), key=key)
        assert (code, reason) == ("PERMISSION_DENIED", "NOT_ALLOWED")
        assert "`operate`" in message
    for path in PATHS:
        status, answer = await post(door, path, {}, key)
        assert (status, answer["reason"], answer["metadata"]) == (403, "NOT_ALLOWED", {"scope": "operate"})
    assert router.asked == []


async def test_without_a_credential_nothing_is_said(door: Folder) -> None:
    for request in RPCS:
        assert (await refused(door, *rpc(request), key="nonsense"))[0] == "UNAUTHENTICATED"


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
        (f"{REPOSITORY}/models/doubler/load", {"parameters": {"x": 1.5}}),
        (f"{REPOSITORY}/models/doubler/load", {"parameters": {"x": 1 << 70}}),
        (f"{REPOSITORY}/models/doubler/load", {"parameters": {"file:a": "no base64!"}}),
        (f"{REPOSITORY}/models/doubler/unload", {"parameters": {"x": {}}}),
    ],
)
async def test_a_body_that_makes_no_sense(door: Folder, path: str, body: object) -> None:
    status, answer = await post(door, path, body, door.keys.operator)
    assert (status, answer["reason"]) == (400, "MALFORMED_REQUEST")


async def test_only_posts(door: Folder) -> None:
    for path in PATHS:
        assert (await http(door, path, key=door.keys.operator))[0] == 405
    status, _ = await post(door, f"{REPOSITORY}/models/doubler/reload", {}, door.keys.operator)
    assert status == 404
