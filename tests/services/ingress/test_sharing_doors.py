"""Two real doors of different machines with one real Redis: what they let through together, and what stops their start."""

import asyncio
import contextlib
import re
from pathlib import Path

import grpc
import pytest
import yaml
from redis import Redis

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.hop import testing
from headrace.hop.process.lifecycle import EXIT_CONFIG
from tests.libs.state.valkey import Valkey
from tests.services.ingress.ingress_calls import PREDICT, bearer, unary
from tests.services.ingress.ingress_door import DoorProcess, FakeRouter, Folder, definition, prepare
from tests.services.ingress.test_ingress_two_doors import second
from tests.services.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
_BURST = 40


async def until_metric(folder: Folder, line: str) -> None:
    async def is_there() -> bool:
        return bool(re.search(f"^{line}$", await asyncio.to_thread(folder.metrics), re.MULTILINE))

    await until(is_there)


async def passed(folder: Folder, calls: int) -> int:
    """How many of so many calls were let through."""
    request = pb.PredictRequest(pipeline="double")
    request.rows.add().update({"x": [1.0, 2.0], "n": 1, "word": "w"})
    async with grpc.aio.insecure_channel(folder.grpc) as channel:
        method, count = unary(channel, PREDICT, pb.PredictResponse), 0
        for _ in range(calls):
            try:
                await method(request, metadata=(bearer(folder),), timeout=60)
                count += 1
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
    return count


async def test_two_doors_have_one_burst_and_go_on_without_redis(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    server.start()
    async with testing.served(definition(FakeRouter())) as harness, contextlib.AsyncExitStack() as stack:
        stack.callback(server.kill)
        here = tmp_path / "here"
        here.mkdir(mode=0o700)
        folder = prepare(here, harness.target, sharing={"redis": server.url, "timeout_s": 5.0})
        tenants = yaml.safe_load((here / "tenants.yaml").read_text())
        # A burst, and then nothing for as long as a test lasts.
        tenants["tenants"]["demo"]["limits"] = {"rows_per_s": 0.001, "rows_burst": _BURST}
        (here / "tenants.yaml").write_text(yaml.safe_dump(tenants))
        (here / "tenants.yaml").chmod(0o600)
        other = second(folder, here / "second")
        doors = [DoorProcess(f) for f in (folder, other)]
        for door in doors:
            stack.callback(door.kill)
        await asyncio.gather(*(d.ready(f.grpc) for d, f in zip(doors, (folder, other), strict=True)))
        for f in (folder, other):
            await until_metric(f, "headrace_quota_doors 2.0")
        # A door without a lease may take its part of a burst before Redis hears of it, so first each gets one.
        total = 0
        for f in (folder, other):
            total += await passed(f, 2)
            await until_metric(f, 'headrace_quota_share_ratio{tenant="demo"} .*')
        for _ in range(4):
            total += await passed(other, 30) + await passed(folder, 30)
        # What one door was lent and did not spend, the other gets at a later exchange: until nothing is left.
        async with asyncio.timeout(60):
            while (more := await passed(other, 5) + await passed(folder, 5)) or total < _BURST * 0.9:
                total += more
        # Tokens are lent to one door at a time. Only a door whose lease ran out (each second that a busy machine held it up) has
        # its local part, half of the burst, before it hears of what the other took.
        assert total <= _BURST * (1 + 1 / 2)
        server.kill()
        for f in (folder, other):
            await until_metric(f, "headrace_quota_alone 1.0")
        await passed(folder, 3)
        assert all(door.process.poll() is None for door in doors)
        server.start()
        for f in (folder, other):
            await until_metric(f, "headrace_quota_alone 0.0")

        Redis.from_url(server.url).set("headrace:quotas:{doors}:format", "headrace quotas 99")
        late = DoorProcess(second(folder, here / "late"))
        stack.callback(late.kill)
        assert await asyncio.to_thread(late.process.wait, 200) == EXIT_CONFIG
        assert "sharing.redis: headrace:quotas:{doors}:format says 'headrace quotas 99'" in late.log()
        assert str(tmp_path) not in late.log().split("sharing.redis")[1]
        assert all(door.process.poll() is None for door in doors)
