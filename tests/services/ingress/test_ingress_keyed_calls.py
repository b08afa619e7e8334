"""The header `idempotency-key` at a real door, in every protocol of unary calls."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import OIP, PREDICT, bearer, frame, http, rest_body, stream, unary
from tests.services.ingress.ingress_door import FakeRouter, Folder, infer_request

pytestmark = pytest.mark.asyncio(loop_scope="session")
CallAnswer = tuple[bytes, dict[str, str]]
"""What came back, without what differs between any two requests, and the headers and trailers."""


def row(n: int = 3) -> dict[str, Any]:
    return {"x": [1.5, 2.0], "n": n, "word": "a"}


def predict_message(n: int = 3) -> pb.PredictRequest:
    request = pb.PredictRequest(pipeline="double")
    request.rows.add().update(row(n))
    return request


async def by_grpc(
    door: Folder, path: str, request: Any, reply: Any, headers: dict[str, str], key: str = ""
) -> CallAnswer:
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        metadata = (bearer(door, key or None), *headers.items())
        call = unary(channel, path, reply)(request, timeout=20, metadata=metadata)
        try:
            body = (await call).SerializeToString(deterministic=True)
        except grpc.aio.AioRpcError as error:
            body = f"{error.code().name} {error.details()}".encode()
        said = [*(await call.initial_metadata() or ()), *(await call.trailing_metadata() or ())]
    return body, {k: v for k, v in said if isinstance(v, str)}


async def predict(door: Folder, headers: dict[str, str], n: int = 3, key: str = "") -> CallAnswer:
    return await by_grpc(door, PREDICT, predict_message(n), pb.PredictResponse, headers, key)


async def model_infer(door: Folder, headers: dict[str, str], n: int = 3) -> CallAnswer:
    return await by_grpc(
        door, OIP + "ModelInfer", infer_request([[1, 2]], [n]), oip.ModelInferResponse, headers
    )


async def posted(door: Folder, path: str, body: bytes, kind: str, headers: dict[str, str]) -> CallAnswer:
    # curl leaves a header without a value, unless a `;` says that it has none.
    sent = [f"content-type: {kind}", *(f"{k}: {v}" if v.strip() else f"{k};" for k, v in headers.items())]
    _, said, content = await http(door, path, body, *sent)
    return content, said


async def connect_json(door: Folder, headers: dict[str, str], n: int = 3) -> CallAnswer:
    body = json.dumps({"pipeline": "double", "rows": [row(n)]}).encode()
    return await posted(door, PREDICT, body, "application/json", headers)


async def connect_proto(door: Folder, headers: dict[str, str], n: int = 3) -> CallAnswer:
    return await posted(door, PREDICT, predict_message(n).SerializeToString(), "application/proto", headers)


async def grpc_web(door: Folder, headers: dict[str, str], n: int = 3) -> CallAnswer:
    return await posted(door, PREDICT, frame(predict_message(n)), "application/grpc-web", headers)


async def rest(door: Folder, headers: dict[str, str], n: int = 3) -> CallAnswer:
    body = json.loads(rest_body())
    del body["id"]
    body["inputs"][1]["data"] = [n]
    return await posted(
        door, "/v2/models/double/infer", json.dumps(body).encode(), "application/json", headers
    )


PROTOCOLS = [predict, model_infer, connect_json, connect_proto, grpc_web, rest]
each_protocol = pytest.mark.parametrize("ask", PROTOCOLS, ids=lambda f: f.__name__)


def key() -> str:
    return str(uuid.uuid4())


@each_protocol
async def test_a_repeated_call_is_replayed(door: Folder, router: FakeRouter, ask: Callable[..., Any]) -> None:
    headers = {"idempotency-key": key()}
    before = len(router.calls)
    body, said = await ask(door, {**headers, "x-request-id": "first"})
    again, told = await ask(door, {**headers, "x-request-id": "second"})
    assert body == again
    assert len(router.calls) == before + 1
    assert "idempotency-replayed" not in said
    assert told["idempotency-replayed"] == "true"
    assert told["idempotency-original-request-id"] == said["x-request-id"] == "first"
    assert told["x-request-id"] == "second"
    other, refused = await ask(door, headers, n=4)
    assert b"other parameters" in other or "other parameters" in refused.get("grpc-message", "")
    assert len(router.calls) == before + 1


async def test_a_failure_of_the_callers_is_replayed(door: Folder, router: FakeRouter) -> None:
    headers = {"idempotency-key": key()}
    body, said = await model_infer(door, {**headers, "x-request-id": "first"}, n=99)
    again, told = await model_infer(door, headers, n=99)
    assert body == again
    assert body.startswith(b"INVALID_ARGUMENT")
    assert ("idempotency-replayed" in said, told["idempotency-original-request-id"]) == (False, "first")


async def test_the_same_call_over_another_protocol_is_the_same_call(door: Folder) -> None:
    headers = {"idempotency-key": key()}
    await predict(door, headers)
    _, told = await connect_json(door, headers)
    assert told["idempotency-replayed"] == "true"


async def test_another_tenants_key_is_another_key(door: Folder, router: FakeRouter) -> None:
    headers, before = {"idempotency-key": key()}, len(router.calls)
    await predict(door, headers)
    _, said = await predict(door, headers, key=door.keys.repeating)
    assert "idempotency-replayed" not in said
    assert len(router.calls) == before + 2


async def test_credential_scope_and_quota_come_before_the_key(door: Folder) -> None:
    headers = {"idempotency-key": key()}
    await predict(door, headers)
    for credential, code in ((door.keys.readonly, b"PERMISSION_DENIED"), ("nonsense", b"UNAUTHENTICATED")):
        body, said = await predict(door, headers, key=credential)
        assert body.startswith(code)
        assert "idempotency-replayed" not in said
    # A replay costs what a call costs: this tenant has two rows, and then one each two seconds.
    ends = [await predict(door, headers, key=door.keys.repeating) for _ in range(4)]
    assert any(body.startswith(b"RESOURCE_EXHAUSTED") for body, _ in ends)


@each_protocol
@pytest.mark.parametrize("sent", ["", " ", "x" * 256], ids=["empty", "space", "long"])
async def test_a_wrong_key_is_refused(
    door: Folder, router: FakeRouter, ask: Callable[..., Any], sent: str
) -> None:
    """An empty one too: its caller believes that it is protected."""
    before = len(router.calls)
    body, said = await ask(door, {"idempotency-key": sent})
    assert "idempotency-key has 1 to 255" in body.decode() + said.get("grpc-message", "")
    assert len(router.calls) == before


async def test_messages_of_a_stream_have_no_key(door: Folder, router: FakeRouter) -> None:
    before = len(router.calls)
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        requests = iter([infer_request([[1, 2]], [i]) for i in range(3)])
        metadata = (bearer(door), ("idempotency-key", key()))
        replies = [reply async for reply in stream(channel)(requests, metadata=metadata, timeout=20)]
    assert [reply.error_message for reply in replies] == ["", "", ""]
    assert len(router.calls) == before + 3
