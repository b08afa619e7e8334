"""A door that finds a port of its own taken ends, so that who started it can try others; it neither hangs nor half works."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from headrace.hop import testing
from tests.services.ingress.ingress_door import DoorProcess, FakeRouter, definition, prepare


@pytest.mark.parametrize("mode", ["envoy", "grpc"])
@pytest.mark.parametrize("which", ["metrics", "admin"])
async def test_a_port_that_is_taken_ends_it(tmp_path: Path, mode: str, which: str) -> None:
    async with testing.served(definition(FakeRouter())) as harness:
        folder = prepare(tmp_path / "door", harness.target, mode=mode)
        address = folder.admin if which == "admin" else str(folder.settings["telemetry"]["metrics"])
        host, _, port = address.rpartition(":")
        with socket.create_server((host, int(port))):
            process = DoorProcess(folder)
            try:
                assert await asyncio.to_thread(process.process.wait, 60) != 0
                assert address in process.log()
            finally:
                process.kill()
