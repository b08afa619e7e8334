"""How the tests call the door: by grpcio over plaintext, and by curl."""

import asyncio
import gzip
import json
import subprocess
import time
from typing import Any

import grpc
import pytest

from headrace.access.specs import QuotaSpec
from headrace.hop.errors import reason_name
from headrace.hop.transport.wire_errors import fault_of_rpc
from headrace.oip import open_inference_pb2 as oip
from services.ingress.documents.catalog import Credential, Tenant
from services.ingress.request_context import RequestContext, begin
from tests.services.ingress.ingress_door import Folder

PREDICT = "/headrace.api.inference.v1.InferenceService/Predict"
OIP = "/inference.GRPCInferenceService/"
# A header of `http`.
JSON = "content-type: application/json"


def bearer(door: Folder, key: str | None = None) -> tuple[str, str]:
    """The header with a credential: `key`, or else that of the tenant `demo`."""
    return "authorization", f"Bearer {door.keys.demo if key is None else key}"


def operating(scope: str) -> RequestContext:
    """A request of the key `k` of the tenant `ops`, with this scope and a minute."""
    made = begin("x", {}, time.monotonic(), 0.0)
    made.deadline = time.monotonic() + 60
    made.credential = Credential(Tenant("ops", frozenset(), QuotaSpec(), 1), "k", frozenset({scope}))
    return made


def unary(channel: grpc.aio.Channel, path: str, reply: Any) -> Any:
    """The unary method of gRPC at `path`, whose replies are of the class `reply`."""
    return channel.unary_unary(
        path, request_serializer=lambda r: r.SerializeToString(), response_deserializer=reply.FromString
    )


def stream(channel: grpc.aio.Channel) -> Any:
    """The method ModelStreamInfer."""
    return channel.stream_stream(
        OIP + "ModelStreamInfer",
        request_serializer=oip.ModelInferRequest.SerializeToString,
        response_deserializer=oip.ModelStreamInferResponse.FromString,
    )


async def call(
    door: Folder,
    path: str,
    request: Any,
    reply: Any,
    *,
    key: str | None = None,
    timeout: float = 60,
    **metadata: str,
) -> Any:
    """One unary gRPC call over the plaintext listener."""
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        method = unary(channel, path, reply)
        return await method(request, timeout=timeout, metadata=(bearer(door, key), *metadata.items()))


async def refused(door: Folder, path: str, request: Any, reply: Any, **options: Any) -> tuple[str, str, str]:
    """(code, reason, message) of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(door, path, request, reply, **options)
    fault = fault_of_rpc(caught.value)
    return fault.code.name, reason_name(fault.reason), fault.message


async def infer(door: Folder, request: oip.ModelInferRequest, **options: Any) -> oip.ModelInferResponse:
    reply: oip.ModelInferResponse = await call(
        door, OIP + "ModelInfer", request, oip.ModelInferResponse, **options
    )
    return reply


async def infer_refused(door: Folder, request: oip.ModelInferRequest, **options: Any) -> tuple[str, str, str]:
    return await refused(door, OIP + "ModelInfer", request, oip.ModelInferResponse, **options)


async def http(
    door: Folder,
    path: str,
    body: bytes | None = None,
    *headers: str,
    key: str | None = None,
    tls: bool = False,
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) by curl, which knows HTTP/1.1, HTTP/2 and TLS as other people's clients do."""
    base = f"https://{door.tls}" if tls else f"http://{door.grpc}"
    command = ["curl", "-sk", "-i", base + path, "-H", ": ".join(bearer(door, key)), "-H", "expect:"]
    for header in headers:
        command += ["-H", header]
    if body is not None:
        command += ["--data-binary", "@-"]
    done = await asyncio.to_thread(
        subprocess.run, command, input=body, capture_output=True, timeout=60, check=True
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), fields, content


async def post(door: Folder, path: str, body: object, key: str | None = None) -> tuple[int, Any]:
    """(status, reply) of a POST of JSON."""
    status, _, content = await http(door, path, json.dumps(body).encode(), JSON, key=key)
    return status, json.loads(content) if content else None


def frame(message: Any, compressed: int = 0) -> bytes:
    data: bytes = message.SerializeToString()
    if compressed:
        data = gzip.compress(data)
    return bytes([compressed]) + len(data).to_bytes(4, "big") + data


def rest_body() -> bytes:
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[1.5, 2]]},
        {"name": "n", "datatype": "INT32", "shape": [1], "data": [3]},
        {"name": "word", "datatype": "BYTES", "shape": [1, 1], "data": ["é"]},
    ]
    return json.dumps({"id": "r-1", "inputs": inputs}).encode()
