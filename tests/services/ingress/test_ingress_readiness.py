"""Readiness turns negative before anything closes, in every protocol, while calls are still served."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped] # has no stubs

from headrace.oip import open_inference_pb2 as oip
from services.ingress.envoy.drain import AdminPort, stop
from services.ingress.envoy.readiness import FRESH_S, Readiness
from tests.services.ingress.ingress_calls import OIP, call, http, infer
from tests.services.ingress.ingress_door import DoorProcess, Folder, infer_request, running
from tests.services.waiting import until

HEALTH = "/grpc.health.v1.Health/"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# So long that all is asked within it, however busy the machine is; nobody waits for its end.
NOTICE_S = 60.0


@pytest.fixture(params=["envoy", "grpc"])
async def leaving(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Folder, DoorProcess]]:
    async with running(tmp_path / "door", mode=request.param) as process:
        yield process.folder, process


async def ready(door: Folder) -> list[bool]:
    """What each protocol says."""
    server = await call(door, OIP + "ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse)
    model = await call(door, OIP + "ModelReady", oip.ModelReadyRequest(name="double"), oip.ModelReadyResponse)
    status, _, _ = await http(door, "/v2/health/ready")
    of_model, _, _ = await http(door, "/v2/models/double/ready")
    health = await call(
        door, HEALTH + "Check", health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse, key=""
    )
    probe = await asyncio.to_thread(probed, door)
    return [server.ready, model.ready, status == 200, of_model == 200, health.status == SERVING, probe == 200]


def probed(door: Folder) -> int:
    """What `/ready` beside the metrics answers."""
    try:
        return int(urllib.request.urlopen(f"http://{door.settings['telemetry']['metrics']}/ready").status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def watching(channel: grpc.aio.Channel, request: Any) -> Any:
    return channel.unary_stream(
        HEALTH + "Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(request)


async def says(door: Folder, expected: bool) -> bool:
    return await ready(door) == [expected] * 6


async def test_a_door_that_stops_says_so_first_and_goes_on_serving(
    leaving: tuple[Folder, DoorProcess],
) -> None:
    door, process = leaving
    await until(lambda: says(door, True), what="positive everywhere")
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        watch = watching(channel, health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING

        stopping = asyncio.create_task(stop(AdminPort(door.admin).ask, notice_s=NOTICE_S, drain_s=15))

        await until(lambda: says(door, False), what="negative everywhere")
        assert (await asyncio.wait_for(watch.read(), 60)).status == NOT_SERVING
        reply = await infer(door, infer_request([[1, 2]], [1]))
        assert reply.model_name == "double"
        assert not stopping.done()
        stopping.cancel()
    assert await stop(AdminPort(door.admin).ask, notice_s=0, drain_s=15) == 0
    assert await asyncio.to_thread(process.process.wait, 20) == 0


async def test_a_stop_does_not_wait_for_those_who_watch(leaving: tuple[Folder, DoorProcess]) -> None:
    door, process = leaving
    await until(lambda: says(door, True), what="positive everywhere")
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        watch = watching(channel, health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService"))
        assert (await watch.read()).status == SERVING
        assert await stop(AdminPort(door.admin).ask, notice_s=0.2, drain_s=30) == 0
    assert await asyncio.to_thread(process.process.wait, 10) == 0


async def test_a_storm_of_probes_is_a_few_questions() -> None:
    now, asked = 0.0, 0
    answers = [b"HTTP/1.1 200 OK\r\n\r\nLIVE", b"HTTP/1.1 503 Service Unavailable\r\n\r\nDRAINING", None]

    async def admin(method: str, path: str) -> bytes | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        assert (method, path) == ("GET", "/ready")
        return answers[asked - 1]

    readiness = Readiness(admin, lambda: now)
    assert await asyncio.gather(*(readiness.ready() for _ in range(50))) == [True] * 50
    assert asked == 1
    now = FRESH_S
    assert await asyncio.gather(*(readiness.ready() for _ in range(50))) == [False] * 50
    assert asked == 2
    now = 2 * FRESH_S
    assert not await readiness.ready()
