"""What a service does before its first call: memory is settled, the way of a call passed, and only then is it ready."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server import hosting
from headrace.hop.server.serve import serving
from headrace.hop.transport.in_process import LocalServers
from tests.libs.hop.hop_echo import ECHO, ONE, EchoServicer


class Warmed:
    """An echo service that notes what it does; its warm-up lasts until the test lets it end."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.may_end = asyncio.Event()
        self.began = asyncio.Event()
        self.servicer = EchoServicer()
        self.definition = hop.Definition("echo", config.ServiceSettings, self._build)

    async def warm(self) -> None:
        self.done.append("warm")
        await self.servicer.One(StringValue(value="warm-up"), Call("", hop.Peer("local")))
        self.began.set()
        await self.may_end.wait()

    @asynccontextmanager
    async def _build(
        self, _settings: config.ServiceSettings, _runtime: hop.Runtime
    ) -> AsyncIterator[Sequence[hop.Service]]:
        self.done.append("built")
        yield [hop.Service(ECHO, self.servicer, warm_up=self.warm)]


@pytest.fixture
def warmed() -> Warmed:
    return Warmed()


async def test_calls_come_when_memory_is_settled_and_the_way_is_passed(
    tmp_path: Path, warmed: Warmed
) -> None:
    address = f"unix:{tmp_path}/echo"
    settings = config.ServiceSettings(server=config.Server(listen=address, drain_notice_s=0))
    client = Client("echo", rules.ClientRules(address, retry=rules.RetryRules(attempts=1)))

    async def call() -> str:
        reply = await client.unary(ONE)(StringValue(value="hello"), deadline=time.monotonic() + 60)
        return reply.value

    server = serving(warmed.definition, settings, settle=lambda: warmed.done.append("settled"))
    opening = asyncio.create_task(server.__aenter__())
    try:
        await asyncio.wait_for(warmed.began.wait(), 60)
        assert warmed.done == ["built", "settled", "warm"]
        with pytest.raises(hop.Fault) as caught:
            await call()
        assert caught.value.code is hop.Code.UNAVAILABLE
        warmed.may_end.set()
        await opening
        assert await call() == "hello"
    finally:
        warmed.may_end.set()
        await opening
        await server.__aexit__(None, None, None)
        await client.close()


async def test_a_hosted_service_is_warm_before_it_is_found(warmed: Warmed) -> None:
    telemetry = Telemetry("echo", config.Telemetry(log_level="warning"))
    local = LocalServers(telemetry)
    settings = config.ServiceSettings(server=config.Server(listen="local"))
    hosted = hosting.hosted([(warmed.definition, settings)], telemetry, local)
    opening = asyncio.create_task(hosted.__aenter__())
    await asyncio.wait_for(warmed.began.wait(), 60)
    assert local.names() == []
    warmed.may_end.set()
    await opening
    assert local.names() == ["echo"]
    await hosted.__aexit__(None, None, None)
    await telemetry.close()
