"""The two ends of a connection of frames, written by hand, as a peer might be that is not ours."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from headrace.api.hop.v1 import hop_pb2
from headrace.hop.client.dial import Client
from headrace.hop.client.settings import ClientRules, RetryRules
from headrace.hop.transport.frames import SUFFIX, VERSION

Answering = Callable[[hop_pb2.ExchangeRequest], bytes | None]


def framed(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def hello(version: int = VERSION, largest: int = 64 << 20, name: bytes = b"headrace") -> bytes:
    return framed(struct.pack("<8sIQ16s", name, version, largest, b""))


def respond(*responses: hop_pb2.CarriedResponse, draining: bool = False) -> bytes:
    return hop_pb2.ExchangeResponse(responses=responses, draining=draining).SerializeToString()


def echoed(message: hop_pb2.ExchangeRequest) -> bytes:
    return respond(*(hop_pb2.CarriedResponse(id=r.id, message=r.message) for r in message.requests))


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Raises IncompleteReadError at the end, OSError."""
    (size,) = struct.unpack("<I", await reader.readexactly(4))
    return await reader.readexactly(size)


class Door:
    """A server of frames alone: sends `first`, then what `answering` makes of each message; None: it hangs up, after `last`.

    `begun`: how many connections came; `hang_up` ends the current one.
    """

    def __init__(self, path: Path, answering: Answering = echoed, first: bytes | None = None) -> None:
        self.target = f"unix:{path}"
        self.begun = 0
        self.first, self.last = hello() if first is None else first, b""
        self._path, self._answering = f"{path}{SUFFIX}", answering
        self._writers: list[asyncio.StreamWriter] = []

    def hang_up(self) -> None:
        self._writers.pop().close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begun += 1
        self._writers.append(writer)
        writer.write(self.first)
        try:
            await read_frame(reader)
            while True:
                reply = self._answering(hop_pb2.ExchangeRequest.FromString(await read_frame(reader)))
                if reply is None:
                    break
                writer.write(framed(reply))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.write(self.last)
            writer.close()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, self._path)
        try:
            yield
        finally:
            server.close()
            while self._writers:
                self.hang_up()


@asynccontextmanager
async def client_of(door: Door) -> AsyncIterator[Client]:
    """hop's own client of it, without a retry, which would hide what is tested."""
    client = Client("echo", ClientRules(door.target, retry=RetryRules(attempts=1)))
    try:
        yield client
    finally:
        await client.close()


class Peer:
    """A client of a server of ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(map(framed, frames)))

    async def answers(self, count: int) -> dict[int, hop_pb2.CarriedResponse]:
        """So many responses, by id."""
        found: dict[int, hop_pb2.CarriedResponse] = {}
        while len(found) < count:
            message = hop_pb2.ExchangeResponse.FromString(await read_frame(self.reader))
            found |= {r.id: r for r in message.responses}
        return found

    async def ended(self) -> None:
        """Waits for the end of the connection, whatever still comes."""
        async with asyncio.timeout(60):
            try:
                while await self.reader.read(1 << 16):
                    pass
            except OSError:
                pass


@asynccontextmanager
async def peer_of(target: str, first: bytes | None = None) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_unix_connection(target.removeprefix("unix:") + SUFFIX)
    try:
        writer.write(hello() if first is None else first)
        yield Peer(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def greeted(target: str) -> AsyncIterator[Peer]:
    """A client that has read the server's hello."""
    async with peer_of(target) as peer:
        assert await read_frame(peer.reader)
        yield peer
