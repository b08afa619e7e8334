"""The carrier of calls between processes of one machine, and what a peer may do on it: half frames, garbage, another version,
another user, not reading."""

import asyncio
import struct
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given
from hypothesis import strategies as st

from headrace import hop
from headrace.hop import config, testing
from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client
from headrace.hop.transport import frames
from headrace.hop.transport.frames import FRAME_BYTES, HEALTH, SUFFIX, FrameProtocol
from headrace.hop.transport.stream_server import StreamDemultiplexer
from tests.libs.hop.hop_echo import EchoServicer, definition
from tests.libs.hop.hop_frames import Door, framed, greeted, hello, peer_of, read_frame
from tests.libs.hop.test_hop_exchange import carried, fault_of, frame, request, say
from tests.services.waiting import until


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that servers have accepted."""
    made, accept = list[Any](), StreamDemultiplexer.accept

    def noted(streams: StreamDemultiplexer) -> asyncio.Protocol:
        stream = accept(streams)
        made.append(stream)
        return stream

    monkeypatch.setattr(StreamDemultiplexer, "accept", noted)
    return made


class Reader(FrameProtocol):
    """Collects what comes, until a frame that is no message."""

    def __init__(self, largest: int = 1000) -> None:
        super().__init__(largest)
        self.frames: list[bytes] = []
        self.connection_made(Mock())

    def received(self, frame: bytes) -> None:
        if frame == b"bad":
            raise DecodeError
        self.frames.append(frame)

    def ready(self) -> bytes:
        return b""


def read(*pieces: bytes) -> Reader:
    async def fed() -> Reader:
        reader = Reader()
        for piece in pieces:
            if not reader.garbage:
                reader.data_received(piece)
        reader.connection_lost(None)
        return reader

    return asyncio.run(fed())


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_frames_are_read_whole_wherever_the_bytes_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    sent = [b"fine" if s == b"bad" else s for s in sent]
    text = hello() + b"".join(map(framed, sent))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=12)))
    reader = read(*(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)))
    assert (reader.frames, reader.garbage) == (sent, False)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_whatever_comes_is_read_or_cut_off_and_never_held_beyond_a_frame(text: bytes, cut: int) -> None:
    for first in (b"", hello()):
        reader = read(first + text[:cut], text[cut:])
        ended = reader.garbage or reader.other_version
        assert reader.transport.abort.called == reader.garbage
        assert len(reader._buffer) <= len(hello()) + len(text) if ended else 1004


GARBAGE = [
    framed(b"GET / HTTP/1.1\r\n"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    hello(name=b"othername"[:8]),
    framed(b"headrace" + struct.pack("<I", 1)),
    hello() + struct.pack("<I", (64 << 20) + 1),
    hello() + framed(b"\xff\xff\xff"),
    hello() + framed(frame(request(1, "hold"), request(1))),
]


@pytest.mark.parametrize("sent", GARBAGE)
async def test_a_peer_that_sends_garbage_is_cut_off_and_nobody_else(
    served: testing.Harness, servicer: EchoServicer, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "STALLED_S", 600.0)
    client = served.client()
    others = asyncio.create_task(say(client, "hold", 60))
    await until(lambda: servicer.calls)
    async with peer_of(served.target, sent) as peer:
        await peer.ended()
    await until(lambda: servicer.cancelled == len(servicer.calls) - 1)
    servicer.release.set()
    assert await others == "hold"
    assert carried(servicer) == [True] * len(servicer.calls)


@pytest.mark.parametrize("sent", [b"", hello()[:7], hello() + framed(frame(request(1)))[:-1]])
async def test_a_peer_that_stops_in_the_middle_of_a_frame_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, servicer: EchoServicer, sent: bytes
) -> None:
    monkeypatch.setattr(frames, "STALLED_S", 0.05)
    async with testing.served(definition(servicer)) as served, peer_of(served.target, sent) as peer:
        await peer.ended()
        assert servicer.calls == []


async def test_the_calls_of_a_peer_that_goes_away_are_cancelled(servicer: EchoServicer) -> None:
    async with testing.served(definition(servicer), {"server": {"default_timeout_s": 600}}) as served:
        async with greeted(served.target) as peer:
            peer.send(frame(request(1, "hold"), request(2, "hold")))
            await until(lambda: len(servicer.calls) == 2)
        await until(lambda: servicer.cancelled == 2)


def door_of(served: testing.Harness, first: bytes) -> Door:
    """In place of the server's own socket for frames."""
    path = Path(served.target.removeprefix("unix:"))
    path.with_name(path.name + SUFFIX).unlink()
    return Door(path, first=first)


async def test_a_server_of_another_version_gets_rpcs_and_is_not_tried_again_soon(
    served: testing.Harness, servicer: EchoServicer
) -> None:
    door = door_of(served, hello(version=2))
    async with door.opened():
        client = served.client()
        assert [await say(client, word) for word in ("a", "b")] == ["a", "b"]
        await asyncio.sleep(0.3)  # three times the first pause
    assert (door.begun, carried(servicer)) == (1, [False, False])


async def test_a_call_that_waits_for_a_connection_that_ends_goes_as_an_rpc(
    served: testing.Harness, servicer: EchoServicer
) -> None:
    door = door_of(served, b"")
    async with door.opened():
        client = served.client(retry=config.RetrySettings(attempts=1))
        waiting = asyncio.create_task(say(client, "hello", 60))
        await until(lambda: door.begun)
        door.hang_up()
        assert await waiting == "hello"
    assert carried(servicer) == [False]


async def test_a_client_of_another_version_learns_ours_and_is_left_alone(served: testing.Harness) -> None:
    async with peer_of(served.target, hello(version=7) + framed(b"what we cannot read")) as peer:
        assert await read_frame(peer.reader) == hello()[4:-16] + (await hello_of(served))[-16:]
        await peer.ended()


async def hello_of(served: testing.Harness) -> bytes:
    async with peer_of(served.target) as peer:
        return await read_frame(peer.reader)


class Inflating(EchoServicer):
    async def One(self, request: StringValue, call: hop.Call) -> StringValue:
        await super().One(request, call)
        return StringValue(value="x" * FRAME_BYTES)


async def test_a_peer_that_does_not_read_is_not_read_and_holds_up_nobody(accepted: list[Any]) -> None:
    servicer, count = Inflating(), 500
    async with testing.served(definition(servicer)) as served, greeted(served.target) as peer:
        peer.send(frame(request(1)))
        await until(lambda: servicer.calls)
        client = served.client()
        await say(client, "somebody else")
        for number in range(2, count + 1):
            peer.send(frame(request(number, "x" * 1000)))
            if number % 100 == 0:
                await say(client, "somebody else")
        # What waits to be written is at most what was read before the socket was full.
        (stuck,) = [stream for stream in accepted if stream._paused]
        assert len(servicer.calls) < 100
        assert stuck.transport.get_write_buffer_size() <= 2 * FRAME_BYTES
        assert len(await peer.answers(count)) == count


async def test_a_peer_that_never_reads_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, accepted: list[Any]
) -> None:
    monkeypatch.setattr(frames, "STALLED_S", 0.3)
    async with testing.served(definition(Inflating())) as served, greeted(served.target) as peer:
        peer.send(frame(*(request(n) for n in range(1, 5))))
        await until(lambda: accepted[0]._paused)
        await until(accepted[0].ended.done)
        await peer.ended()
        assert await say(served.client(), "somebody else")


async def test_a_server_that_never_reads_costs_a_client_its_deadline_and_no_memory(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello())
        await release.wait()
        writer.close()

    path = tmp_path / "s"
    async with await asyncio.start_unix_server(deaf, f"{path}{SUFFIX}", limit=1):
        wide = rules.LimiterRules(initial=64, minimum=64)
        client = Client("echo", rules.ClientRules(f"unix:{path}", limiter=wide))
        calls = (fault_of(client, "x" * 200_000, 0.5) for _ in range(40))
        assert {fault.code for fault in await asyncio.gather(*calls)} == {hop.Code.DEADLINE_EXCEEDED}
        stream: Any = client.replicas.all[0].transport._streams._current  # type: ignore[attr-defined] # GrpcTransport's
        assert stream._paused
        assert stream.transport.get_write_buffer_size() <= 2 * FRAME_BYTES
        # The client asks for its health.
        assert {call.path for call in stream._unsent.values()} <= {HEALTH}
        assert len(stream._waiting) <= 1
        release.set()
        await client.close()
