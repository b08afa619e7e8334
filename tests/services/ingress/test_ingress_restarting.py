"""A restart under load: the new process on the same port first, then the clean stop of the old one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest
import yaml

from headrace.hop import testing
from headrace.oip import open_inference_pb2 as oip
from services.ingress.envoy.drain import AdminPort, stop
from tests.services.ingress.ingress_door import (
    DoorProcess,
    FakeRouter,
    Folder,
    definition,
    free_ports,
    infer_request,
    prepare,
)

INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.parametrize("secure", [False, True])
async def test_a_restart_loses_no_call(tmp_path: Path, secure: bool) -> None:
    async with testing.served(definition(FakeRouter())) as harness:
        folder = prepare(tmp_path / "door", harness.target)
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
            await traffic.answered(100)
            left = await stop(AdminPort(folder.admin).ask, notice_s=0.1, drain_s=10, successor=True)
            assert left == 0
            assert await asyncio.to_thread(old.process.wait, 10) == 0
            await traffic.answered(100)
            traffic.on = False
            await asyncio.gather(*callers)
            assert traffic.failures == []
        finally:
            old.kill()
            if new is not None:
                new.kill()


class Traffic:
    """Callers that share one channel, without retries."""

    def __init__(self, folder: Folder, secure: bool) -> None:
        options = [("grpc.enable_retries", 0)]
        if secure:
            roots = grpc.ssl_channel_credentials((folder.path / "cert.pem").read_bytes())
            self._channel = grpc.aio.secure_channel(folder.tls, roots, options)
        else:
            self._channel = grpc.aio.insecure_channel(folder.grpc, options)
        self._call = self._channel.unary_unary(
            INFER,
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        self._metadata = (("authorization", f"Bearer {folder.keys.demo}"),)
        self.on = True
        self.count = 0
        self.failures: list[str] = []

    async def call(self) -> None:
        while self.on:
            try:
                await self._call(infer_request([[1, 2]], [1]), timeout=5, metadata=self._metadata)
                self.count += 1
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code()}: {error.details()}")
                await asyncio.sleep(0.01)

    async def answered(self, more: int) -> None:
        goal, deadline = self.count + more, time.monotonic() + 10
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
