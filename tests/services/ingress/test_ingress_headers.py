"""What headers bring, in every protocol of a real door."""

from __future__ import annotations

import grpc
import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.services.ingress.ingress_calls import PREDICT, unary
from tests.services.ingress.ingress_door import Folder

pytestmark = pytest.mark.asyncio(loop_scope="session")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def row() -> pb.PredictRequest:
    request = pb.PredictRequest(pipeline="double")
    request.rows.add().update({"x": [1, 2], "n": 3, "word": "hi"})
    return request


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
async def test_spaces_around_a_value_are_no_part_of_it(door: Folder, name: str) -> None:
    """As PROTOCOL-HTTP2 demands of servers, and as perf_analyzer sends what README tells: `-H "authorization: Bearer KEY"`."""
    secret = door.keys.demo if name == "x-api-key" else f"Bearer {door.keys.demo}"
    metadata = ((name, f" {secret} "), ("x-request-id", " spaced "), ("traceparent", f" {TRACE} "))
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        reply = await unary(channel, PREDICT, pb.PredictResponse)(row(), timeout=60, metadata=metadata)
    assert (reply.request_id, reply.trace_id) == ("spaced", TRACE.split("-")[1])
