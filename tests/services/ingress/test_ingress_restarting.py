"""A restart under load: the new process on the same port first, then the clean stop of the old one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import yaml

from headrace.hop import testing
from headrace.oip import open_inference_pb2 as oip
from services.ingress.envoy.drain import AdminPort, stop
from tests.ports import free_ports
from tests.services.ingress.ingress_calls import OIP, bearer, unary
from tests.services.ingress.ingress_door import (
    ROOT,
    DoorProcess,
    FakeRouter,
    Folder,
    definition,
    infer_request,
    prepare,
)


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
            second = successor(folder)
            new = DoorProcess(folder, folder.path / "second.yaml")
            await new.ready(str(second["admin"]))
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
    command = [sys.executable, "-m", "services.ingress.stop", "--admin", folder.admin]
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
        goal, deadline = self.count + more, time.monotonic() + 60
        while self.count < goal:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


def successor(folder: Folder) -> dict[str, object]:
    """Settings of a process that takes the same ports over, with private ones of its own."""
    admin, metrics = free_ports(2)
    settings = {
        **folder.settings,
        "admin": f"127.0.0.1:{admin}",
        "run_dir": str(folder.path / "run2"),
        "telemetry": {"metrics": f"127.0.0.1:{metrics}"},
    }
    (folder.path / "second.yaml").write_text(yaml.safe_dump(settings))
    return settings
