"""Calls carried over one stream, between hop's client and hop's server: what an RPC does, the stream does too."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.api.hop.v1 import hop_pb2
from headrace.hop import config, testing
from headrace.hop.client.dial import Client
from headrace.hop.server.serve import serving
from headrace.hop.transport.frames import LARGEST_REQUEST_BYTES
from headrace.hop.transport.wire_errors import fault_of_status
from tests.libs.hop.hop_echo import ONE, EchoServicer, definition
from tests.libs.hop.hop_frames import Answering, Door, client_of, framed, greeted, respond
from tests.services.waiting import until

WAYS = pytest.mark.parametrize("way", ["rpc", "stream", "local"])


async def say(client: Client, word: str, within: float = 5.0, **options: Any) -> str:
    reply = await client.unary(ONE)(StringValue(value=word), deadline=time.monotonic() + within, **options)
    return reply.value


async def fault_of(client: Client, word: str, within: float = 5.0) -> hop.Fault:
    with pytest.raises(hop.Fault) as caught:
        await say(client, word, within)
    return caught.value


def carried(servicer: EchoServicer) -> list[bool]:
    """Of each call, whether it came on a stream. (gRPC tells every RPC who made it.)"""
    return ["user-agent" not in call.metadata for call in servicer.calls]


async def test_calls_travel_on_the_stream_with_their_metadata_deadline_and_peer(
    served: testing.Harness, servicer: EchoServicer
) -> None:
    client = served.client()
    assert await say(client, "hello", 3.0, metadata=[("who", "me")]) == "hello"
    (call,) = servicer.calls
    assert carried(servicer) == [True]
    assert call.metadata == {"who": "me"}
    assert call.peer.trusted
    assert call.peer.transport == "unix"
    assert 2.0 < call.deadline - time.monotonic() <= 3.0


def counted(harness: testing.Harness, code: str) -> float:
    labels = {"service": "echo", "method": "tests.Echo/One", "code": code}
    return harness.runtime.telemetry.registry.get_sample_value("headrace_hop_server_calls_total", labels) or 0


@asynccontextmanager
async def client_by(way: str, servicer: EchoServicer) -> AsyncIterator[tuple[Client, testing.Harness]]:
    transport: Literal["local", "unix"] = "local" if way == "local" else "unix"
    async with testing.served(definition(servicer), transport=transport) as harness:
        yield harness.client(exchange=way == "stream"), harness


@WAYS
async def test_faults_and_replies_are_the_same_whichever_way_a_call_goes(
    servicer: EchoServicer, way: str
) -> None:
    async with client_by(way, servicer) as (client, harness):
        fault = await fault_of(client, "fault")
        assert (fault.code, fault.reason) == (hop.Code.NOT_FOUND, hop.Reason.REASON_MODEL_UNKNOWN)
        assert (fault.message, fault.metadata, fault.retry_after_s) == ("no model m", {"model": "m"}, 0.25)
        for word in ("defect", "wrong", "leak", "timeout"):
            fault = await fault_of(client, word)
            assert (fault.code, fault.reason) == (hop.Code.INTERNAL, hop.Reason.REASON_INTERNAL)
            # The operator finds the rest in the log.
            assert fault.metadata["error_id"] in fault.message
            assert "hunter2" not in fault.message
        assert await say(client, "bytes") == "bytes"
        assert [counted(harness, code) for code in ("NOT_FOUND", "INTERNAL", "OK")] == [1, 4, 1]


@WAYS
async def test_a_call_that_is_cancelled_or_late_stops_its_handler_and_no_other(
    servicer: EchoServicer, way: str
) -> None:
    async with client_by(way, servicer) as (client, harness):
        going_on, given_up = (asyncio.create_task(say(client, "hold", 60)) for _ in range(2))
        await until(lambda: len(servicer.calls) == 2)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert given_up.cancelled()
        await until(lambda: servicer.cancelled == 1)
        assert (await fault_of(client, "hold", 0.1)).code is hop.Code.DEADLINE_EXCEEDED
        await until(lambda: servicer.cancelled == 2)
        # Whether the server's timer or its peer's cancellation was first is a race; both are counted.
        await until(lambda: counted(harness, "DEADLINE_EXCEEDED") + counted(harness, "CANCELLED") == 2)
        assert await say(client, "answered before the first") == "answered before the first"
        servicer.release.set()
        assert await going_on == "hold"
    assert carried(servicer) == [way != "rpc"] * 4


async def test_each_of_many_calls_is_answered_with_its_own_and_counted(served: testing.Harness) -> None:
    client = served.client(limiter=config.LimiterSettings(initial=512))
    words = [f"{n}" for n in range(400)]
    assert await asyncio.gather(*(say(client, w) for w in words)) == words
    assert counted(served, "OK") == 400


async def test_a_large_request_goes_as_an_rpc_and_a_large_reply_comes_back(
    served: testing.Harness, servicer: EchoServicer
) -> None:
    client = served.client()
    await say(client, "first")
    sizes = [LARGEST_REQUEST_BYTES // 2, LARGEST_REQUEST_BYTES - 100, LARGEST_REQUEST_BYTES + 100]
    found = await asyncio.gather(*(say(client, "x" * size) for size in sizes * 3))
    assert [len(word) for word in found] == sizes * 3
    assert sorted(carried(servicer)) == [False] * 3 + [True] * 7


async def test_a_reply_larger_than_the_client_takes_fails_its_own_call_only() -> None:
    class Inflating(EchoServicer):
        async def One(self, request: StringValue, call: hop.Call) -> StringValue:
            return StringValue(value="x" * int(request.value))

    async with testing.served(definition(Inflating())) as served:
        client = served.client(max_message_bytes=1024 * 1024)
        large, small = await asyncio.gather(
            fault_of(client, str(1024 * 1024)), say(client, "700000"), return_exceptions=True
        )
    assert isinstance(large, hop.Fault)
    assert (large.code, large.reason) == (hop.Code.RESOURCE_EXHAUSTED, hop.Reason.REASON_TOO_LARGE)
    assert small == "x" * 700_000


async def test_a_server_that_stops_answers_what_it_has_and_its_successor_takes_the_rest(
    servicer: EchoServicer,
) -> None:
    successor = EchoServicer()
    async with testing.served(definition(servicer)) as served:
        client = served.client()
        begun = asyncio.create_task(say(client, "hold", 20))
        await until(lambda: servicer.calls)
        telemetry = config.Telemetry(log_level="error")
        settings = config.ServiceSettings(server=served.settings.server, telemetry=telemetry)
        async with serving(definition(successor), settings, replace=True):
            stopping = asyncio.ensure_future(served.stop())
            replies: list[str] = []

            async def moved() -> None:
                while not successor.calls:
                    replies.append(await say(client, "next"))

            await asyncio.wait_for(moved(), 60)
            assert not begun.done()
            servicer.release.set()
            assert await begun == "hold"
            await stopping
            assert await say(client, "last") == "last"
            assert set(replies) == {"next"}
            assert carried(successor) == [True] * len(successor.calls)
            await client.close()


async def test_a_client_that_closes_fails_what_waits(served: testing.Harness, servicer: EchoServicer) -> None:
    client = served.client()
    waiting = asyncio.create_task(fault_of(client, "hold"))
    await until(lambda: servicer.calls)
    before = asyncio.all_tasks()
    await client.close()
    assert (await waiting).code is hop.Code.UNAVAILABLE
    await until(lambda: servicer.cancelled == 1)
    assert not {t for t in asyncio.all_tasks() - before if "stream_client" in repr(t)}


@pytest.mark.parametrize(
    "answering",
    [
        lambda _: b"\xff\xff\xff",
        lambda m: respond(*(hop_pb2.CarriedResponse(id=r.id, status=b"\xff\xff") for r in m.requests)),
        lambda m: respond(*(hop_pb2.CarriedResponse(id=r.id, message=b"\xff\xff") for r in m.requests)),
    ],
)
async def test_garbage_from_a_server_is_an_internal_fault(tmp_path: Path, answering: Answering) -> None:
    door = Door(tmp_path / "s", answering)
    async with door.opened(), client_of(door) as client:
        fault = await fault_of(client, "hello")
        assert (fault.code, fault.reason) == (hop.Code.INTERNAL, hop.Reason.REASON_INTERNAL)


async def test_answers_to_nobody_are_passed_over(tmp_path: Path) -> None:
    def answering(message: hop_pb2.ExchangeRequest) -> bytes:
        mine = [hop_pb2.CarriedResponse(id=r.id, message=r.message) for r in message.requests]
        return respond(hop_pb2.CarriedResponse(id=10**9), *mine, *mine)

    door = Door(tmp_path / "s", answering)
    async with door.opened(), client_of(door) as client:
        assert [await say(client, w) for w in ("a", "b")] == ["a", "b"]


@pytest.mark.parametrize("last", [b"", framed(b"x" * 100)[:50]], ids=["nothing", "half a frame"])
async def test_a_server_that_hangs_up_leaves_what_it_read_unavailable(tmp_path: Path, last: bytes) -> None:
    door = Door(tmp_path / "s", lambda _: None)
    door.last = last
    async with door.opened(), client_of(door) as client:
        for _ in range(3):
            fault = await fault_of(client, "hello")
            assert (fault.code, fault.reason) == (hop.Code.UNAVAILABLE, hop.Reason.REASON_UNREACHABLE)


async def test_nothing_is_written_to_a_server_that_does_not_say_that_it_takes_calls(tmp_path: Path) -> None:
    def never(_: hop_pb2.ExchangeRequest) -> bytes:
        raise AssertionError

    door = Door(tmp_path / "s", never, b"")
    async with door.opened(), client_of(door) as client:
        fault = await fault_of(client, "hello", 0.2)
        assert fault.code is hop.Code.DEADLINE_EXCEEDED


# By hand, as a client that is not ours might.


def request(number: int, word: str = "hello", method: str = ONE.path) -> hop_pb2.CarriedRequest:
    message = StringValue(value=word).SerializeToString()
    return hop_pb2.CarriedRequest(id=number, method=method, message=message)


def frame(*requests: hop_pb2.CarriedRequest, cancelled: tuple[int, ...] = ()) -> bytes:
    return hop_pb2.ExchangeRequest(requests=requests, cancelled_ids=cancelled).SerializeToString()


UNKNOWN = hop.Code.UNIMPLEMENTED, hop.Reason.REASON_METHOD_UNKNOWN
MALFORMED = hop.Code.INVALID_ARGUMENT, hop.Reason.REASON_MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        *(
            (request(1, method=m), UNKNOWN)
            for m in ("/tests.Echo/None", "/tests.Echo/Both", "", "\x00/é" * 300)
        ),
        (hop_pb2.CarriedRequest(id=1, method=ONE.path, message=b"\xff\xff"), MALFORMED),
    ],
)
async def test_a_request_for_no_unary_method_or_of_garbage_fails_its_own_call_only(
    served: testing.Harness, bad: hop_pb2.CarriedRequest, told: tuple[hop.Code, hop.Reason]
) -> None:
    async with greeted(served.target) as peer:
        peer.send(frame(bad, request(2)))
        answers = await peer.answers(2)
    fault = fault_of_status(answers[1].status, answers[1].trailing)
    assert (fault.code, fault.reason) == told
    assert not answers[2].status


async def test_cancelling_what_is_unknown_or_not_yet_begun_is_no_error(served: testing.Harness) -> None:
    async with greeted(served.target) as peer:
        peer.send(frame(request(1, "hold"), request(2), cancelled=(1, 99)), frame(request(3)))
        assert sorted(await peer.answers(2)) == [2, 3]
