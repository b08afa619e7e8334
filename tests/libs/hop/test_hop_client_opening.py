"""A replica is connected to as soon as it is known: the first call finds a stream that the server has taken."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.api.hop.v1 import hop_pb2
from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from headrace.hop.transport import stream_client
from headrace.hop.transport.stream import ACCEPTED_KEY, SERVICE
from tests.libs.hop.hop_echo import ONE


class Door:
    """A server of streams that notes each that begins, and does with them what the test says."""

    def __init__(self, path: Path) -> None:
        self.target = f"unix:{path}"
        self.begun = 0
        self.refuses: grpc.StatusCode | None = None
        self.hang_up = asyncio.Event()

    async def serve(self, frames: AsyncIterator[bytes], context: Any) -> None:
        # Whoever sees that it has begun may hang it up, and the next one not.
        hang_up = self.hang_up
        self.begun += 1
        if self.refuses is not None:
            await context.abort(self.refuses)
        await context.send_initial_metadata(((ACCEPTED_KEY, "1"),))
        hanging_up = asyncio.create_task(hang_up.wait())
        answering = asyncio.create_task(self._answer(frames, context))
        await asyncio.wait({hanging_up, answering}, return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()

    @staticmethod
    async def _answer(frames: AsyncIterator[bytes], context: Any) -> None:
        async for raw in frames:
            requests = hop_pb2.ExchangeRequest.FromString(raw).requests
            mine = [hop_pb2.CarriedResponse(id=r.id, message=r.message) for r in requests]
            await context.write(hop_pb2.ExchangeResponse(responses=mine).SerializeToString())

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        server = grpc.aio.server()
        streams: dict[str, Any] = {"Exchange": grpc.stream_stream_rpc_method_handler(self.serve)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE.full_name, streams)])
        server.add_insecure_port(self.target)
        await server.start()
        try:
            yield
        finally:
            self.hang_up.set()
            await server.stop(0)

    async def seen(self, streams: int) -> None:
        """Waits for that many; fails where there are more."""
        ends = time.monotonic() + 60
        while self.begun < streams:
            assert time.monotonic() < ends, f"{self.begun} streams began"
            await asyncio.sleep(0.005)
        assert self.begun == streams


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "door")


@asynccontextmanager
async def client_of(door: Door, **settings: Any) -> AsyncIterator[Client]:
    client = Client("echo", rules.ClientRules(door.target, retry=rules.RetryRules(attempts=1), **settings))
    try:
        yield client
    finally:
        await client.close()


async def say(client: Client, word: str) -> str:
    reply = await client.unary(ONE)(StringValue(value=word), deadline=time.monotonic() + 60)
    return reply.value


async def test_the_first_call_goes_on_a_stream_that_is_there_already(door: Door) -> None:
    async with door.opened(), client_of(door) as client:
        await door.seen(1)
        assert await say(client, "hello") == "hello"
        assert door.begun == 1


async def test_a_replica_that_comes_late_is_found_without_a_call(door: Door) -> None:
    async with client_of(door) as client:
        with pytest.raises(hop.Fault) as caught:
            await say(client, "nobody is there")
        assert caught.value.reason is hop.Reason.REASON_UNREACHABLE
        async with door.opened():
            await door.seen(1)
            assert await say(client, "hello") == "hello"
            assert door.begun == 1


async def test_a_replica_that_is_down_costs_a_call_no_time(door: Door) -> None:
    async with client_of(door) as client:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(hop.Fault):
                await say(client, "nobody is there")
            assert time.monotonic() - began < 30  # of the 60 s that it had


async def test_a_stream_that_ends_is_followed_by_another_without_a_call(door: Door) -> None:
    async with door.opened(), client_of(door) as client:
        await door.seen(1)
        door.hang_up.set()
        await asyncio.sleep(0)
        door.hang_up = asyncio.Event()
        await door.seen(2)
        assert await say(client, "hello") == "hello"
        assert door.begun == 2


async def test_tries_are_few_and_further_apart_each_time(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "_TRIES", 4)
    monkeypatch.setattr(stream_client, "_FIRST_PAUSE_S", 0.02)
    door.refuses = grpc.StatusCode.UNAVAILABLE
    async with door.opened(), client_of(door) as client:
        began = time.monotonic()
        await door.seen(4)
        assert time.monotonic() - began >= 0.02 + 0.04 + 0.08
        await asyncio.sleep(0.3)  # the next would have come after 0.16
        assert door.begun == 4
        # With nothing under way any more, the next call tries for itself.
        door.refuses = None
        assert await say(client, "hello") == "hello"
        assert door.begun == 5


async def test_a_server_without_streams_is_asked_once(door: Door) -> None:
    door.refuses = grpc.StatusCode.UNIMPLEMENTED
    async with door.opened(), client_of(door):
        await door.seen(1)
        await asyncio.sleep(0.3)  # three times the first pause
        assert door.begun == 1


async def test_closing_ends_the_tries(door: Door) -> None:
    before = asyncio.all_tasks()
    async with client_of(door):
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before


async def test_a_call_as_soon_as_the_replica_is_there_does_not_wait_out_a_failed_try(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "_TRIES", 3)
    monkeypatch.setattr(stream_client, "_FIRST_PAUSE_S", 0.01)
    before = asyncio.all_tasks()
    async with client_of(door) as client:
        # gRPC's own pause after these is 200 ms at least.
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.005)
        async with door.opened():
            assert await say(client, "hello") == "hello"
