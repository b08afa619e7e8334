"""The network between simulated processes: messages arrive late and in order, connections end with the processes at their ends.

The seams are `transport.Channels`, what hop's client uses of a gRPC channel, and the transports of the event loop.
"""

import asyncio
import itertools
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from typing import Any

import grpc.aio

from headrace import hop
from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.errors import Fault
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.binding import answering, bind
from headrace.hop.server.stack import UNIX_PEER, server_stack
from headrace.hop.transport import wire_errors
from headrace.hop.transport.frames import SUFFIX
from headrace.hop.transport.stream_server import StreamDemultiplexer
from tests.simulation.virtual_time import OUTSIDE, PROCESS

# The delays of messages, seconds; one in a thousand takes up to `_LONG_S`.
_DELAYS_S = (0.0, 0.00005, 0.0002, 0.003)
_LONG_S = 0.4
# What a socket takes before somebody reads: little, so that writers often wait.
_SOCKET_BYTES = 2048
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
        self.demultiplexer = StreamDemultiplexer(self.answers, UNIX_PEER, 1 << 22)


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
        self.connections: dict[Connection | _Rpc, None] = {}
        self._dead = set[str]()

    def channels(self, address: str, *_: Any) -> "SimulatedChannels":
        """In place of `transport.Channels`."""
        return SimulatedChannels(self, address)

    def cut(self, process: str, *, dead: bool = False) -> None:
        """Ends all connections from and to a process, and what it serves."""
        self.servers = {a: s for a, s in self.servers.items() if s.process != process}
        for connection in list(self.connections):
            if process in (connection.client, connection.server and connection.server.process):
                connection.cut(process if dead else "")
        if dead:
            self._dead.add(process)

    async def connect(self, protocol: Callable[[], asyncio.Protocol], path: str) -> None:
        """In place of the event loop's `create_unix_connection`."""
        if PROCESS.get() in self._dead:
            await asyncio.get_running_loop().create_future()
        server = self.servers.get(f"unix:{path.removesuffix(SUFFIX)}")
        if server is None:
            raise ConnectionRefusedError
        Connection(self, server, protocol())


class Connection:
    """A connection of frames. Bytes come in pieces; those under way may be lost with it, in the middle of a frame."""

    def __init__(self, network: Network, server: Server, client: asyncio.Protocol) -> None:
        self._network, self.server, self.client = network, server, PROCESS.get()
        network.connections[self] = None
        ours = _End(self, network, self.client, client)
        theirs = _End(self, network, server.process, server.demultiplexer.accept())
        self.ends = ours, theirs
        ours.other, theirs.other = theirs, ours
        ours.last = arrival()
        theirs.later(ours.last, theirs.accept)
        client.connection_made(ours)

    def cut(self, dead: str = "") -> None:
        """Ends it, as when a process dies. `dead`: it hears nothing of that."""
        self._network.connections.pop(self, None)
        for end in self.ends:
            if end.process == dead:
                end.die()
            else:
                end.lose()


class _End(asyncio.Transport):
    """One end, in place of asyncio's transport. Its peer's socket takes only so much that is not read."""

    def __init__(
        self, connection: Connection, network: Network, process: str, protocol: asyncio.Protocol
    ) -> None:
        self.process, self.protocol = process, protocol
        self.other: _End
        self._connection, self._network = connection, network
        # When the last bytes come from here, how many are under way or not read, and what was not read yet.
        self.last, self._unread, self._held = 0.0, 0, list[bytes]()
        self._paused = self._reads_nothing = self._closing = False
        self._lost_at = math.inf

    def later(self, when: float, work: Callable[..., None], *arguments: Any) -> None:
        """Does it in this process."""
        context = context_of(self.process)
        asyncio.get_running_loop().call_at(when, work, *arguments, context=context)

    def accept(self) -> None:
        if not self._closing:
            self.protocol.connection_made(self)

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: Any) -> None:
        if self._closing:
            return
        cuts = sorted(random.sample(range(1, len(data)), random.choice((0, 0, 1, 2))))
        for begin, end in itertools.pairwise((0, *cuts, len(data))):
            self.last = arrival(self.last)
            self.other.later(self.last, self.other._arrive, self.last, data[begin:end])
        self._unread += len(data)
        if self._unread > _SOCKET_BYTES and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def _arrive(self, sent: float, data: bytes) -> None:
        if self._closing or sent > self._lost_at:
            return
        if self._reads_nothing:
            self._held.append(data)
            return
        self.other.later(arrival(), self.other._read, len(data))
        self.protocol.data_received(data)

    def _read(self, count: int) -> None:
        self._unread -= count
        if self._paused and not self._closing and self._unread <= _SOCKET_BYTES:
            self._paused = False
            self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self._reads_nothing = True

    def resume_reading(self) -> None:
        self._reads_nothing = False
        held, self._held = self._held, []
        for data in held:
            self._arrive(0.0, data)

    def close(self) -> None:
        """What was written still arrives."""
        if not self._closing:
            self._end()
            self.other.later(arrival(self.last), self.other._hang_up)

    def abort(self) -> None:
        if not self._closing:
            self._end()
            self.other.lose()

    def lose(self) -> None:
        """Some of what is under way is lost."""
        self._lost_at = asyncio.get_running_loop().time() + random.choice((0.0, 0.0002, 0.003))
        self.later(self._lost_at, self._hang_up)

    def die(self) -> None:
        """With its process."""
        self._closing = True

    def _hang_up(self) -> None:
        if not self._closing:
            self._end()

    def _end(self) -> None:
        self._closing = True
        self._network.connections.pop(self._connection, None)
        self.later(0.0, self.protocol.connection_lost, None)


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

    def cut(self, _dead: str = "") -> None:
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

    @property
    def _server(self) -> Server | None:
        return self._network.servers.get(self._address)

    def stub(self, path: str, now: float) -> Callable[..., Coroutine[Any, Any, bytes]]:
        async def rpc(data: bytes, timeout: float, metadata: Metadata = ()) -> bytes:
            return await _Rpc(self._network, self._server).call(path, data, timeout, dict(metadata))

        return rpc

    async def close(self) -> None: ...


def _error(code: grpc.StatusCode, *trailing: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), "simulated")
