"""The network between simulated processes: messages arrive late and in order, connections end with the processes at their ends.

The seam is `transport.Channels`: what hop's client and server use of a gRPC channel, and of the two ends of a stream.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextvars import Context
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
from tests.simulation.virtual_time import OUTSIDE, PROCESS

# The delays of messages, seconds; one in a thousand takes up to `_LONG_S`.
_DELAYS_S = (0.0, 0.00005, 0.0002, 0.003)
_LONG_S = 0.4
_SERVING = b"\x08\x01"
Metadata = Sequence[tuple[str, str]]


def arrival(after: float = 0.0) -> float:
    """When a message arrives that is sent now: later than `after`."""
    delay = random.choice(_DELAYS_S) if random.randrange(1000) else random.uniform(0, _LONG_S)
    return max(asyncio.get_running_loop().time() + delay, after + 1e-7)


class Server:
    """What a process serves at an address, behind hop's server layers."""

    def __init__(self, name: str, services: Sequence[hop.Service], telemetry: Telemetry) -> None:
        self.process = PROCESS.get()
        bound = bind(services)
        self.stack = server_stack(name, config.Server(listen=f"unix:/{name}"), telemetry)
        self.answers = {path: answering(b, self.stack.serve) for path, b in bound.items()}
        self.demultiplexer = StreamDemultiplexer(self.answers, lambda _: UNIX_PEER, 1 << 22)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process."""
        return asyncio.get_running_loop().create_task(work, context=context_of(self.process))


def context_of(process: str) -> Context:
    """A new context of a process."""
    context = Context()
    context.run(PROCESS.set, process)
    return context


class Network:
    """Who serves at which address now, and the connections between processes."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        # In the order in which they were opened.
        self.connections: dict[Stream | _Rpc, None] = {}

    def channels(self, address: str, *_: Any) -> "SimulatedChannels":
        """In place of `transport.Channels`."""
        return SimulatedChannels(self, address)

    def cut(self, process: str) -> None:
        """Ends all connections from and to a process, and what it serves."""
        self.servers = {a: s for a, s in self.servers.items() if s.process != process}
        for connection in list(self.connections):
            if process in (connection.client, connection.server and connection.server.process):
                connection.cut()


class _Pipe:
    """One direction of a stream: messages in order. None is its end."""

    def __init__(self) -> None:
        self._last = 0.0
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, message: bytes | None) -> None:
        self._last = arrival(self._last)
        asyncio.get_running_loop().call_at(
            self._last, self.messages.put_nowait, message, context=OUTSIDE.copy()
        )

    async def all(self) -> AsyncIterator[bytes]:
        while (message := await self.messages.get()) is not None:
            yield message


class Stream:
    """The client's end of a stream to a server; `_ServerEnd` is the other one."""

    def __init__(self, network: Network, server: Server | None, metadata: Metadata) -> None:
        self._network, self.server, self.client = network, server, PROCESS.get()
        self.metadata = metadata
        self.up, self.down = _Pipe(), _Pipe()
        self.broken = False
        self.accepted: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        self._serving = server.spawn(self._serve(server)) if server else None
        network.connections[self] = None
        if server is None:
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
        self._network.connections.pop(self, None)
        self.down.messages.put_nowait(None)
        if self._serving is not None:
            self._serving.cancel()
        if not self.accepted.done():
            self.accepted.set_exception(asyncio.InvalidStateError())
            self.accepted.exception()

    async def _serve(self, server: Server) -> None:
        await server.demultiplexer._serve(self.up.all(), _ServerEnd(self))
        self.down.put(None)
        self._network.connections.pop(self, None)


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


class _Rpc:
    """One unary call."""

    def __init__(self, network: Network, server: Server | None) -> None:
        self._network, self.server, self.client = network, server, PROCESS.get()
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._serving: asyncio.Task[Any] | None = None
        network.connections[self] = None

    async def call(self, path: str, data: bytes, timeout: float, metadata: Mapping[str, str]) -> bytes:
        loop = asyncio.get_running_loop()
        call = Call(path, UNIX_PEER, loop.time() + timeout, metadata)
        if self.server is None:
            raise _error(grpc.StatusCode.UNAVAILABLE)
        loop.call_at(arrival(), self._begin, path, data, call, context=context_of(self.server.process))
        try:
            async with asyncio.timeout(timeout):
                return await self.reply
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED) from None
        finally:
            self._network.connections.pop(self, None)
            if self._serving is not None:
                self._serving.cancel()

    def cut(self) -> None:
        if not self.reply.done():
            self.reply.set_exception(_error(grpc.StatusCode.UNAVAILABLE))
            self.reply.exception()

    def _begin(self, path: str, data: bytes, call: Call) -> None:
        if not self.reply.done():
            self._serving = asyncio.get_running_loop().create_task(self._serve(path, data, call))

    async def _serve(self, path: str, data: bytes, call: Call) -> None:
        assert self.server is not None
        answer = self.server.answers.get(path)
        done: Callable[..., None] = self._answer
        try:
            found: Any = await answer(data, call) if answer else _SERVING
        except Fault as fault:
            found = _error(wire_errors.status_code(fault.code), *wire_errors.trailers(fault))
            done = self._fail
        asyncio.get_running_loop().call_at(arrival(), done, found, context=OUTSIDE.copy())

    def _answer(self, reply: bytes) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def _fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


class SimulatedChannels:
    """In place of `transport.Channels`."""

    def __init__(self, network: Network, address: str) -> None:
        self._network, self._address = network, address
        self._stream: Callable[..., Stream] = lambda metadata=(): Stream(network, self._server, metadata)

    @property
    def _server(self) -> Server | None:
        return self._network.servers.get(self._address)

    def stream(self, path: str, now: float) -> Callable[..., Stream]:
        return self._stream

    def stub(self, path: str, now: float) -> Callable[..., Coroutine[Any, Any, bytes]]:
        async def rpc(data: bytes, timeout: float, metadata: Metadata = ()) -> bytes:
            return await _Rpc(self._network, self._server).call(path, data, timeout, dict(metadata))

        return rpc

    def forget_failure(self) -> None: ...

    async def close(self) -> None: ...


def _error(code: grpc.StatusCode, *trailing: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), "simulated")
