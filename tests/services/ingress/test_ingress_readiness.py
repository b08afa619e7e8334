"""How a door starts and ends: readiness turns negative before anything closes, in every protocol, while calls are served;
a restart under load has the new process on the same port first; a port that is taken ends it; the wheel has all it needs."""

import asyncio
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped] # has no stubs

from headrace.hop import testing
from headrace.oip import open_inference_pb2 as oip
from services.ingress.envoy.drain import AdminPort, stop
from services.ingress.envoy.readiness import FRESH_S, Readiness
from tests.services.ingress.ingress_calls import OIP, bearer, call, http, infer, unary
from tests.services.ingress.ingress_door import (
    ROOT,
    DoorProcess,
    FakeRouter,
    Folder,
    definition,
    infer_request,
    prepare,
    running,
    second,
)
from tests.services.waiting import until

HEALTH = "/grpc.health.v1.Health/"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# So long that all is asked within it, however busy the machine is; nobody waits for its end.
NOTICE_S = 60.0


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


async def says(door: Folder, expected: bool) -> bool:
    return await ready(door) == [expected] * 6


async def test_a_door_that_stops_says_so_first_and_goes_on_serving(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "door") as process,
        grpc.aio.insecure_channel(process.folder.grpc) as channel,
    ):
        door = process.folder
        await until(lambda: says(door, True), what="positive everywhere")
        watch: Any = channel.unary_stream(
            HEALTH + "Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING

        stopping = asyncio.create_task(stop(AdminPort(door.admin).ask, notice_s=NOTICE_S, drain_s=15))

        await until(lambda: says(door, False), what="negative everywhere")
        assert (await asyncio.wait_for(watch.read(), 60)).status == NOT_SERVING
        # The watch ends by itself: the stop need not wait for it.
        assert await asyncio.wait_for(watch.read(), 60) is grpc.aio.EOF
        reply = await infer(door, infer_request([[1, 2]], [1]))
        assert reply.model_name == "double"
        assert not stopping.done()
        stopping.cancel()
        assert await stop(AdminPort(door.admin).ask, notice_s=0, drain_s=15) == 0
        assert await asyncio.to_thread(process.process.wait, 20) == 0


async def test_a_storm_of_probes_is_a_few_questions() -> None:
    now, asked, can_serve = 0.0, 0, False
    answers = [b"HTTP/1.1 200 OK\r\n\r\nLIVE", b"HTTP/1.1 503 Service Unavailable\r\n\r\nDRAINING", None]

    async def admin(method: str, path: str) -> bytes | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        assert (method, path) == ("GET", "/ready")
        return answers[asked - 1]

    readiness = Readiness(admin, lambda: now, lambda: can_serve)
    assert not await readiness.ready()
    assert asked == 0
    can_serve = True
    assert await asyncio.gather(*(readiness.ready() for _ in range(50))) == [True] * 50
    assert asked == 1
    now = FRESH_S
    assert await asyncio.gather(*(readiness.ready() for _ in range(50))) == [False] * 50
    assert asked == 2
    now = 2 * FRESH_S
    assert not await readiness.ready()


@pytest.mark.parametrize(("secure", "drained_first"), [(False, False), (True, False), (False, True)])
async def test_a_restart_loses_no_call(tmp_path: Path, secure: bool, drained_first: bool) -> None:
    """`drained_first`: as in a container, where a hook drains and SIGTERM ends."""
    async with testing.served(definition(FakeRouter())) as harness:
        # A lost call has to fail, and a call on a busy machine has not.
        folder = prepare(tmp_path / "door", harness.target, deadline_ms=600_000)
        old = DoorProcess(folder)
        new: DoorProcess | None = None
        try:
            await old.ready(folder.admin)
            traffic = Traffic(folder, secure)
            callers = [asyncio.create_task(traffic.call()) for _ in range(8)]
            await traffic.answered(100)
            # It takes the same ports over.
            successor = second(folder, tmp_path / "second", http=folder.settings["http"])
            new = DoorProcess(successor)
            await new.ready(successor.admin)
            # Envoy's own hot restart aborts where /dev/shm is read-only, as it is in a hardened container.
            assert not [door for door in (old, new) if shares_memory(door)]
            await traffic.answered(100)
            if drained_first:
                await asyncio.to_thread(drain_by_command, folder)
                assert old.process.poll() is None
                await traffic.answered(100)
                old.process.terminate()
            else:
                left = await stop(AdminPort(folder.admin).ask, notice_s=0.1, drain_s=10, successor=True)
                assert left == 0
            assert await asyncio.to_thread(old.process.wait, 60) == 0
            await traffic.answered(100)
            traffic.on = False
            await asyncio.gather(*callers)
            assert traffic.failures == []
        finally:
            old.kill()
            if new is not None:
                new.kill()


def drain_by_command(folder: Folder) -> None:
    command = [sys.executable, "-m", "services.ingress.stop", "--config", str(folder.path / "ingress.yaml")]
    subprocess.run([*command, "--drain-only", "--successor"], check=True, cwd=ROOT)


def shares_memory(door: DoorProcess) -> bool:
    return "/dev/shm" in Path(f"/proc/{door.process.pid}/maps").read_text()


class Traffic:
    """Callers that share one channel.

    With gRPC's defaults, as callers have: a stream that waits in the client while a GOAWAY arrives is sent again by gRPC itself
    (a transparent retry: it never left the process). There is no retry policy, so what the door has got is not repeated.
    """

    def __init__(self, folder: Folder, secure: bool) -> None:
        if secure:
            roots = grpc.ssl_channel_credentials((folder.path / "cert.pem").read_bytes())
            self._channel = grpc.aio.secure_channel(folder.tls, roots)
        else:
            self._channel = grpc.aio.insecure_channel(folder.grpc)
        self._call = unary(self._channel, OIP + "ModelInfer", oip.ModelInferResponse)
        self._metadata = (bearer(folder),)
        self.on = True
        self.count = 0
        self.failures: list[str] = []

    async def call(self) -> None:
        while self.on:
            try:
                await self._call(infer_request([[1, 2]], [1]), timeout=60, metadata=self._metadata)
                self.count += 1
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code()}: {error.details()}")
                await asyncio.sleep(0.01)

    async def answered(self, more: int) -> None:
        goal = self.count + more
        await until(lambda: self.count >= goal)


@pytest.mark.parametrize("which", ["metrics", "admin"])
async def test_a_port_that_is_taken_ends_it(tmp_path: Path, which: str) -> None:
    async with testing.served(definition(FakeRouter())) as harness:
        folder = prepare(tmp_path / "door", harness.target)
        address = folder.admin if which == "admin" else str(folder.settings["telemetry"]["metrics"])
        host, _, port = address.rpartition(":")
        with socket.create_server((host, int(port))):
            process = DoorProcess(folder)
            try:
                assert await asyncio.to_thread(process.process.wait, 60) != 0
                assert address in process.log()
            finally:
                process.kill()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "libs/headrace", "services"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    kept = {name.removeprefix("libs/") for name in listed.stdout.split() if (ROOT / name).exists()}
    assert kept
    assert not kept - set(zipfile.ZipFile(wheel).namelist())


async def test_a_door_serves_from_the_wheel_and_variables_alone(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    await asyncio.to_thread(zipfile.ZipFile(wheel).extractall, installed)
    async with testing.served(definition(FakeRouter())) as harness:
        folder = prepare(tmp_path / "door", harness.target)
        (folder.path / "ingress.yaml").unlink()
        variables = {
            f"HEADRACE__{key.upper()}": yaml.safe_dump(value) for key, value in folder.settings.items()
        }
        door = DoorProcess(folder, path=str(installed), variables=variables)
        try:
            await door.ready(folder.grpc)
            await infer(folder, infer_request([[1, 2]], [1]))
        finally:
            door.kill()
