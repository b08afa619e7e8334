"""Simulated processes, and the network between them: messages arrive late, processes stall, die and come back.

The seam is `transport.Channels`: what hop's client and server use of a gRPC channel, and of the two ends of a stream.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import grpc.aio

from headrace import hop
from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.errors import Fault
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.binding import answering, bind
from headrace.hop.server.checks import UNIX_PEER
from headrace.hop.server.stack import server_stack
from headrace.hop.transport import wire_errors
from headrace.hop.transport.stream_server import StreamDemultiplexer

# The delays of messages, seconds; one in a thousand takes up to `_LONG_S`.
_DELAYS_S = (0.0, 0.00005, 0.0002, 0.003)
_LONG_S = 0.4
_SERVING = b"\x08\x01"
Metadata = Sequence[tuple[str, str]]


class Process:
    """One process: its services behind hop's server layers, the streams to it, and when it goes on if it stands still."""

    def __init__(self, name: str, services: Sequence[hop.Service], telemetry: Telemetry) -> None:
        self.name = name
        self._services, self._telemetry = services, telemetry
        self.stands_until = 0.0
        self.streams: set[Stream] = set()
        self.start()

    def start(self) -> None:
        bound = bind(self._services)
        self.stack = server_stack(self.name, config.Server(listen=f"unix:/{self.name}"), self._telemetry)
        self.answers = {path: answering(b, self.stack.serve) for path, b in bound.items()}
        self.demultiplexer = StreamDemultiplexer(self.answers, lambda _: UNIX_PEER, 1 << 22)
        self.up = True

    def kill(self) -> None:
        self.up = False
        for stream in list(self.streams):
            stream.cut()

    def arrival(self, after: float = 0.0) -> float:
        """When a message arrives that is sent now, or to it: later than `after`."""
        delay = random.choice(_DELAYS_S) if random.randrange(1000) else random.uniform(0, _LONG_S)
        return max(asyncio.get_running_loop().time() + delay, self.stands_until, after + 1e-7)


class Pipe:
    """One direction of a stream: messages in order. None is its end."""

    def __init__(self, process: Process) -> None:
        self._process, self._last = process, 0.0
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, message: bytes | None) -> None:
        self._last = self._process.arrival(self._last)
        asyncio.get_running_loop().call_at(self._last, self.messages.put_nowait, message)

    async def all(self) -> AsyncIterator[bytes]:
        while (message := await self.messages.get()) is not None:
            yield message


class Stream:
    """The client's end of a stream to a process; `_ServerEnd` is the other one."""

    def __init__(self, process: Process, metadata: Metadata) -> None:
        self.process, self.metadata = process, metadata
        self.up, self.down = Pipe(process), Pipe(process)
        self.broken = False
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[Metadata] = loop.create_future()
        self._serving = loop.create_task(self._serve())
        process.streams.add(self)
        if not process.up:
            self.cut()

    async def initial_metadata(self) -> Metadata:
        return await asyncio.shield(self.accepted)

    async def read(self) -> Any:
        message = await self.down.messages.get()
        return grpc.aio.EOF if message is None else message

    async def write(self, message: bytes) -> None:
        if self.broken:
            raise asyncio.InvalidStateError
        self.up.put(message)

    async def done_writing(self) -> None:
        self.up.put(None)

    def cancel(self) -> None:
        self.cut()

    def cut(self) -> None:
        """Ends it at both ends, as a lost connection does."""
        self.broken = True
        self.process.streams.discard(self)
        self.down.messages.put_nowait(None)
        self._serving.cancel()
        if not self.accepted.done():
            self.accepted.set_exception(asyncio.InvalidStateError())
            self.accepted.exception()

    async def _serve(self) -> None:
        await self.process.demultiplexer._serve(self.up.all(), _ServerEnd(self))
        self.down.put(None)


class _ServerEnd:
    """What the server uses of `grpc.aio.ServicerContext`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def invocation_metadata(self) -> Metadata:
        return self._stream.metadata

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        if not self._stream.accepted.done():
            self._stream.accepted.set_result(metadata)

    async def write(self, message: bytes) -> None:
        if self._stream.broken:
            raise asyncio.InvalidStateError
        self._stream.down.put(message)

    async def abort(self, *_: object) -> None:
        raise grpc.aio.AbortError


class SimulatedChannels:
    """In place of `transport.Channels`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._stream: Callable[..., Stream] = lambda metadata=(): Stream(self._process, metadata)

    def stream(self, path: str, now: float) -> Callable[..., Stream]:
        return self._stream

    def stub(self, path: str, now: float) -> Callable[..., Coroutine[Any, Any, bytes]]:
        async def rpc(data: bytes, timeout: float, metadata: Metadata = ()) -> bytes:
            try:
                async with asyncio.timeout(timeout):
                    return await self._rpc(path, data, timeout, metadata)
            except TimeoutError:
                raise _error(grpc.StatusCode.DEADLINE_EXCEEDED) from None

        return rpc

    async def _rpc(self, path: str, data: bytes, timeout: float, metadata: Metadata) -> bytes:
        process, loop = self._process, asyncio.get_running_loop()
        call = Call(path, UNIX_PEER, loop.time() + timeout, dict(metadata))
        await asyncio.sleep(process.arrival() - loop.time())
        if not process.up:
            raise _error(grpc.StatusCode.UNAVAILABLE)
        try:
            answer = await process.answers[path](data, call) if path in process.answers else _SERVING
        except Fault as fault:
            raise _error(wire_errors.status_code(fault.code), *wire_errors.trailers(fault)) from None
        await asyncio.sleep(process.arrival() - loop.time())
        return answer

    def forget_failure(self) -> None: ...

    async def close(self) -> None: ...


def _error(code: grpc.StatusCode, *trailing: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), "simulated")
