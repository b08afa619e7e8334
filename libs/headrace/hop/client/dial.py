"""The client of another service. Needs only grpcio and protobuf; uses the metrics of a Runtime if given one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from google.protobuf.message import Message

from headrace.hop.batching.coalesce import Coalescer
from headrace.hop.batching.codec import BatchCodec
from headrace.hop.call import Method
from headrace.hop.client import faults
from headrace.hop.client.observer import ClientObserver
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.client.settings import ClientRules
from headrace.hop.client.stack import compose
from headrace.hop.errors import Fault
from headrace.hop.resilience import resolve
from headrace.hop.resilience.replicas import Replica, ReplicaSet, first_resolved
from headrace.hop.resilience.resolve import Resolver
from headrace.hop.transport.channels import Channels, Security
from headrace.hop.transport.connection import GrpcTransport, LocalTransport, Transport
from headrace.hop.transport.stream_client import StreamMultiplexer

if TYPE_CHECKING:
    import grpc

    from headrace.hop.client.settings import TlsFiles
    from headrace.hop.definition import Runtime
    from headrace.hop.transport.tls import WatchedTls

Item = TypeVar("Item")
Result = TypeVar("Result")
Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)
RespOut = TypeVar("RespOut", covariant=True)
ReqIn = TypeVar("ReqIn", contravariant=True)

Metadata = Sequence[tuple[str, str]]


class UnaryCall(Protocol[ReqIn, RespOut]):
    """A method ready to be called."""

    def __call__(
        self, request: ReqIn, /, *, deadline: float, metadata: Metadata = ()
    ) -> Coroutine[Any, Any, RespOut]:
        """`deadline` in monotonic seconds (inf: the default timeout). Raises Fault, and nothing else."""
        ...


class CoalescedMethod(Protocol[ReqIn, RespOut]):
    """A method whose items share calls, ready to be called."""

    def __call__(self, item: ReqIn, /, prefer: int | None = None) -> Coroutine[Any, Any, RespOut]:
        """`prefer`: index of the replica that the item should go to, if that can take it now. Raises Fault, and nothing else."""
        ...


class EachCall(Protocol[ReqIn, Resp]):
    """A method ready to be called on all replicas."""

    def __call__(self, request: ReqIn, /, *, deadline: float) -> Coroutine[Any, Any, list[Resp | Fault]]:
        """One reply or Fault per replica; `deadline` in finite monotonic seconds. Raises Fault if there are no replicas."""
        ...


class Client:
    """A callee's replicas and the layers around each call to them. Made and used on one event loop.

    `runtime` provides metrics and the services of this process; without it, `observer` may be given.
    `credentials` secure the channels instead of `settings.tls`.
    Raises ValueError if the target cannot be read, tls.TlsError if the certificates cannot.
    """

    def __init__(
        self,
        callee: str,
        settings: ClientRules,
        runtime: Runtime | None = None,
        *,
        observer: ClientObserver | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.callee = callee
        self._settings = settings
        self._runtime = runtime
        self._coalescers: list[Coalescer[Any, Any]] = []
        self._closed = False
        self._observer = observer or _observer(callee, runtime)
        target = resolve.parse(settings.target)
        files = None if credentials or settings.tls is None else _watched(callee, settings.tls, runtime)
        self._security = Security(files, credentials, settings.server_name or target.dns_host)
        draw = random.random
        self.replicas = ReplicaSet(settings, self._connect, draw, self._observer.replica_added)
        self._stack = compose(callee, settings, self.replicas, draw, self._observer)
        self._resolver = Resolver(target, settings.resolve_every_s, self.replicas.update)
        self.replicas.look = self._resolver.look

    def unary(self, method: Method[Req, Resp]) -> UnaryCall[Req, Resp]:
        """The method as a coroutine function of one request."""
        stack = self._stack

        async def call(request: Req, /, *, deadline: float, metadata: Metadata = ()) -> Resp:
            if self._closed:
                raise faults.closed(self.callee)
            out = Outgoing(method, request, deadline, 1)
            out.metadata = metadata
            reply: Resp = await stack(out)
            return reply

        return call

    def each(self, method: Method[Req, Resp]) -> EachCall[Req, Resp]:
        """The method as a coroutine function of one request, which is sent to every replica."""
        stack = self._stack

        async def one(request: Req, deadline: float, replica: Replica) -> Resp | Fault:
            out = Outgoing(method, request, deadline, 1)
            out.only = replica
            try:
                reply: Resp = await stack(out)
            except Fault as fault:
                return fault
            return reply

        async def call(request: Req, /, *, deadline: float) -> list[Resp | Fault]:
            if self._closed:
                raise faults.closed(self.callee)
            if not self.replicas.all:
                await first_resolved(self.callee, self.replicas, deadline)
            return await asyncio.gather(*(one(request, deadline, r) for r in self.replicas.all))

        return call

    def coalesced(
        self,
        method: Method[Req, Resp],
        codec: BatchCodec[Item, Result, Req, Resp],
        upcoming: Callable[[float], bool] | None = None,
    ) -> CoalescedMethod[Item, Result]:
        """The method as a coroutine function of one item; items that wait at the same time are sent in one call.

        `upcoming`: whether a further item will come in a moment (`now`: monotonic seconds). Raises Fault, and nothing else.
        """
        coalescer: Coalescer[Item, Result] = Coalescer(
            self.callee, method, codec, self._settings, self._stack, upcoming
        )
        self._coalescers.append(coalescer)
        self._observer.waiting(method.name, coalescer)
        return coalescer.submit

    async def close(self) -> None:
        """Waits for the queued items and their calls, then closes the channels. Later calls raise Fault UNAVAILABLE."""
        self._closed = True
        await asyncio.gather(*(c.close() for c in self._coalescers))
        await self._resolver.close()
        await self.replicas.close()

    def _connect(self, address: str) -> Transport:
        if address == "local":
            if self._runtime is None:
                raise ValueError(f"target of {self.callee} is local, but this process hosts no services")
            return LocalTransport(self.callee, self._runtime.local)
        most = self._settings.max_message_bytes
        channels = Channels(address, self._security, most)
        streams = None
        if self._settings.exchange and address.startswith("unix:"):
            streams = StreamMultiplexer(self.callee, address.removeprefix("unix:"), most)
        return GrpcTransport(self.callee, channels, streams, stamped=self._settings.exchange)


def _watched(callee: str, files: TlsFiles, runtime: Runtime | None) -> WatchedTls:
    """Raises TlsError."""
    # Imported here, because a client without TLS files needs no `ssl`.
    from headrace.hop.transport.tls import WatchedTls

    watched = WatchedTls(files, "client")
    if runtime is not None:
        from headrace.hop.process.certificates import CertificateInstruments

        runtime.telemetry.once(CertificateInstruments).follow(watched, "client", callee)
    return watched


def _observer(callee: str, runtime: Runtime | None) -> ClientObserver:
    """Counts in the process's metrics, if it has them; their library is imported only then."""
    if runtime is None:
        return ClientObserver()
    from headrace.hop.metrics import ClientInstruments, MetricsObserver

    return MetricsObserver(callee, runtime.telemetry.once(ClientInstruments))
