"""A real Envoy says the same with the lane and without it."""

from __future__ import annotations

import json
import re
import shutil
import time
from asyncio import to_thread
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from http.client import HTTPConnection
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.hop import testing
from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import OIP, PREDICT, call, infer, infer_refused, refused
from tests.services.ingress.ingress_door import (
    ROOT,
    DoorProcess,
    FakeRouter,
    Folder,
    definition,
    infer_request,
    prepare,
)
from tests.services.ingress.lane.lane_builds import need_lane

pytestmark = pytest.mark.asyncio(loop_scope="session")
# Of each call another one, or of the clock.
_OWN = re.compile(r"^(date|x-request-id|server-timing|traceparent|x-envoy-.*)$")
_LIMITS = {"max_request_bytes": 1024 * 1024, "max_rows": 20_000, "max_values": 1_000_000}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def doors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Folder]]:
    """The first has the lane, the second has not: its tree lacks the compiled file."""
    need_lane()
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        ROOT / "services", tree / "services", ignore=shutil.ignore_patterns("lane-*.so", "__pycache__")
    )
    async with AsyncExitStack() as stack:
        router = await stack.enter_async_context(testing.served(definition(FakeRouter())))
        folders = []
        for root in (ROOT, tree):
            folder = prepare(tmp_path_factory.mktemp("door"), router.target, limits=_LIMITS)
            process = DoorProcess(folder, path=f"{root}:{ROOT / 'libs'}")
            stack.callback(process.kill)
            await process.ready(folder.grpc)
            folders.append(folder)
        yield folders


def http1(door: Folder, path: str, headers: dict[str, str], *pieces: bytes) -> tuple[int, list[str], str]:
    """(status, headers, body). Each piece of the body is sent some time after the one before."""
    with closing(HTTPConnection(door.grpc, timeout=60)) as connection:
        connection.putrequest("POST", path)
        size = sum(map(len, pieces)) if pieces else 100
        fields = {"authorization": f"Bearer {door.keys.demo}", "content-length": str(size), **headers}
        for name, value in fields.items():
            connection.putheader(name, value)
        connection.endheaders()
        for i, piece in enumerate(pieces):
            time.sleep(0.1 if i else 0)
            connection.send(piece)
        response = connection.getresponse()
        body = response.read()
    shown = sorted(f"{k}: {v}" for k, v in response.getheaders() if not _OWN.match(k.lower()))
    if response.status == 200 and headers["content-type"] == PROTO["content-type"]:
        body = json.dumps(MessageToDict(pb.PredictResponse.FromString(body))).encode()
    return response.status, shown, json.dumps(json.loads(body), sort_keys=True)


def predict(rows: int = 1, n: int = 3) -> pb.PredictRequest:
    request = pb.PredictRequest(pipeline="double", request_id="mine")
    for _ in range(rows):
        request.rows.add().update({"x": [1.5, 2], "n": n})
    return request


JSON = {"content-type": "application/json", "x-request-id": "mine"}
PROTO = {"content-type": "application/proto", "x-request-id": "mine"}
TEXT = json.dumps({"pipeline": "double", "rows": [{"x": [1.5, 2], "n": 3}]}).encode()


async def _no_message(door: Folder) -> object:
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        method: Any = channel.unary_unary(OIP + "ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"\xff\xff", timeout=60, metadata=(("authorization", f"Bearer {door.keys.demo}"),))
    return caught.value.code(), caught.value.details()


async def _late(door: Folder) -> object:
    slow = predict(1, n=8).SerializeToString()
    answer = str(await to_thread(http1, door, PREDICT, {**PROTO, "connect-timeout-ms": "100"}, slow))
    # The ingress or its client of the router may notice first, in other words.
    return re.findall(r"^\(504|DEADLINE_PASSED", answer)


WRONG_KEY = {**JSON, "authorization": "Bearer wrong"}
TWO_ROWS = infer_request([[1, 2], [3, 4]], [1, 5], id="a", word=[b"u", b"v"])
LARGE = infer_request([[1, 2]] * 9000, [1] * 9000, id="large")
# What is asked, and what is in the answer.
CASES: dict[str, tuple[Callable[[Folder], Awaitable[object]], str]] = {
    "model_infer": (lambda door: infer(door, TWO_ROWS), "store_down"),
    "predict": (lambda door: call(door, PREDICT, predict(2), pb.PredictResponse), "store_down"),
    "bad_row": (
        lambda door: refused(door, PREDICT, predict(1, n=7), pb.PredictResponse),
        "FEATURE_UNAVAILABLE",
    ),
    "wrong_key": (lambda door: infer_refused(door, TWO_ROWS, key="wrong"), "UNAUTHENTICATED"),
    "invalid": (
        lambda door: infer_refused(door, oip.ModelInferRequest(model_name="double")),
        "INVALID_ARGUMENT",
    ),
    "no_message": (_no_message, "INVALID_ARGUMENT"),
    "large": (lambda door: infer(door, LARGE), "large"),
    "connect_json": (lambda door: to_thread(http1, door, PREDICT, JSON, TEXT), "(200"),
    "connect_proto": (
        lambda door: to_thread(http1, door, PREDICT, PROTO, predict(2).SerializeToString()),
        "(200",
    ),
    "broken_json": (lambda door: to_thread(http1, door, PREDICT, JSON, TEXT[:-3]), "(400"),
    "late": (_late, "DEADLINE_PASSED"),
    "large_connect": (
        lambda door: to_thread(http1, door, PREDICT, PROTO, predict(3000).SerializeToString()),
        "(200",
    ),
    "in_pieces": (
        lambda door: to_thread(http1, door, PREDICT, JSON, TEXT[:7], TEXT[7:30], TEXT[30:]),
        "(200",
    ),
    "wrong_key_before_the_body": (lambda door: to_thread(http1, door, PREDICT, WRONG_KEY), "(401"),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_answer_is_the_same(doors: list[Folder], case: str) -> None:
    ask, has = CASES[case]
    first, second = [_without_ids(await ask(door)) for door in doors]
    assert first == second
    assert has in first


async def test_one_has_the_lane_and_the_other_has_not(doors: list[Folder]) -> None:
    lines = [(door.path / "ingress.log").read_text().splitlines() for door in doors]
    serving = [json.loads(line) for door in lines for line in door if '"serving"' in line]
    assert [line["lane"] for line in serving] == [True, False]


def _without_ids(answer: object) -> str:
    return re.sub(r"(request_?id|trace_?id)\W+[\w.-]+", r"\1", str(answer), flags=re.IGNORECASE)
