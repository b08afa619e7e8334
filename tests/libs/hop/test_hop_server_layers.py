"""What the whole server stack does around a call, over a socket."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import testing
from tests.libs.hop.hop_callee import fault_of
from tests.libs.hop.hop_echo import Caller, EchoServicer, caller, definition
from tests.services.waiting import until


@pytest.fixture
async def served(servicer: EchoServicer) -> AsyncIterator[testing.Harness]:
    async with testing.served(definition(servicer), {"server": {"max_concurrent_calls": 2}}) as harness:
        yield harness


@pytest.fixture
async def call(served: testing.Harness) -> AsyncIterator[Caller]:
    async with caller(served.target) as made:
        yield made


async def test_the_handler_knows_its_call(call: Caller, servicer: EchoServicer) -> None:
    assert await call("hello", timeout=5, metadata=(("x-tenant", "t1"), ("raw-bin", b"\x00"))) == "hello"

    [seen] = servicer.calls
    assert seen.method == "/tests.Echo/One"
    assert seen.peer == hop.Peer("unix", "same-user", True)
    assert seen.metadata["x-tenant"] == "t1"
    assert "raw-bin" not in seen.metadata
    assert 0 < seen.deadline - time.monotonic() <= 5.1  # gRPC rounds timeouts up


async def test_calls_beyond_the_limit_are_refused_and_slots_come_back(
    call: Caller, servicer: EchoServicer, served: testing.Harness
) -> None:
    held = [asyncio.create_task(call("hold")) for _ in range(2)]
    await until(lambda: len(servicer.calls) == 2)

    fault = await fault_of(call("hello"))
    assert (fault.code, fault.reason) == (
        hop.Code.RESOURCE_EXHAUSTED,
        hop.Reason.REASON_OVERLOADED,
    )
    assert fault.retry_after_s

    servicer.release.set()
    await asyncio.gather(*held)
    assert await call("hello") == "hello"


async def test_garbage_is_a_malformed_request(call: Caller) -> None:
    method: Any = call.channel.unary_unary("/tests.Echo/One")
    assert (await method(b"\xff\xff\xff").code()).name == "INVALID_ARGUMENT"


async def test_a_call_too_late_to_begin_is_refused_before_the_handler(servicer: EchoServicer) -> None:
    settings = {"server": {"min_budget_s": 10.0}}
    async with testing.served(definition(servicer), settings) as harness, caller(harness.target) as call:
        fault = await fault_of(call("hello", timeout=5))

    assert (fault.code, fault.reason) == (
        hop.Code.DEADLINE_EXCEEDED,
        hop.Reason.REASON_DEADLINE_PASSED,
    )
    assert not servicer.calls


async def test_a_call_without_a_deadline_gets_the_default(servicer: EchoServicer) -> None:
    settings = {"server": {"default_timeout_s": 3.0}}
    async with testing.served(definition(servicer), settings) as harness, caller(harness.target) as call:
        await call("hello")
    assert 0 < servicer.calls[0].deadline - time.monotonic() <= 3


async def test_trailing_metadata_of_the_call_is_sent() -> None:
    class Servicer(EchoServicer):
        async def One(self, request: StringValue, call: hop.Call) -> StringValue:
            call.trailing.append(("x-stage", "last"))
            return await super().One(request, call)

    async with testing.served(definition(Servicer())) as harness, caller(harness.target) as call:
        made = call.one(StringValue(value="hello"))
        await made
        assert ("x-stage", "last") in tuple(await made.trailing_metadata())
