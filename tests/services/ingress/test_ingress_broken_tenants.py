"""A tenants document that is broken when the door starts: the last good one is in force, until it is mended."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import pytest

from headrace.hop import testing
from tests.services.ingress.ingress_calls import infer, infer_refused
from tests.services.ingress.ingress_door import (
    DoorProcess,
    FakeRouter,
    Folder,
    definition,
    infer_request,
    prepare,
)

REQUEST = infer_request([[1, 2]], [1])


def broken(door: Folder) -> float:
    with urllib.request.urlopen(
        f"http://{door.settings['telemetry']['metrics']}/metrics", timeout=60
    ) as page:
        lines = page.read().decode().splitlines()
    [line] = [line for line in lines if line.startswith("headrace_ingress_tenants_broken ")]
    return float(line.split()[1])


@pytest.mark.parametrize("text", ["tenants: {demo: [", "tenants: {demo: {limits: {rows_per_s: -1}}}", "\0"])
async def test_the_last_good_one_is_in_force_over_a_kill(tmp_path: Path, text: str) -> None:
    tmp_path.chmod(0o700)
    async with testing.served(definition(FakeRouter())) as harness:
        door = prepare(tmp_path, harness.target, tenants_kept=str(tmp_path / "kept" / "tenants.yaml"))
        tenants = tmp_path / "tenants.yaml"
        good = tenants.read_bytes()
        for content in (good, text.encode()):
            tenants.write_bytes(content)
            process = DoorProcess(door)
            try:
                await process.ready(door.grpc)
                assert (await infer(door, REQUEST)).model_name == "double"
                assert (await infer_refused(door, REQUEST, key="hr_made_up"))[0] == "UNAUTHENTICATED"
                if content != good:
                    assert "tenants not loaded; the last good ones are in force" in process.log()
                    assert broken(door) == 1
                    tenants.write_bytes(good)
                    async with asyncio.timeout(60):
                        while broken(door):
                            await asyncio.sleep(0.1)
                    await infer(door, REQUEST)
            finally:
                process.kill()
    assert (tmp_path / "kept" / "tenants.yaml").stat().st_mode & 0o777 == 0o600
