"""One hop server: from a definition and its settings to a running gRPC server, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2_grpc  # type: ignore[import-untyped] # has no stubs
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc  # type: ignore[import-untyped] # as above

from headrace.hop import config
from headrace.hop.call import Peer
from headrace.hop.definition import Definition, Runtime, Service, warm_up
from headrace.hop.process.lifecycle import run
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.binding import Bound, Routes, answering, bind, rpc_handler
from headrace.hop.server.health import Health
from headrace.hop.server.listen import FrameListener, UnixListener, bind_tcp
from headrace.hop.server.stack import UNIX_PEER, ServerStack, server_stack
from headrace.hop.transport.frames import HEALTH
from headrace.hop.transport.in_process import LocalServers
from headrace.hop.transport.stream_server import StreamDemultiplexer
from headrace.hop.transport.tls import names_of

__all__ = ["Running", "run", "serving"]

C = TypeVar("C", bound=config.ServiceSettings)


@dataclass(frozen=True, slots=True)
class Running:
    """A running server. `address`: a target for a client ("unix:/path", "host:port")."""

    address: str
    metrics_address: str
    health: Health
    runtime: Runtime


@asynccontextmanager
async def serving(
    definition: Definition[C],
    settings: C,
    runtime: Runtime | None = None,
    *,
    replace: bool = False,
    settle: Callable[[], None] = lambda: None,
) -> AsyncIterator[Running]:
    """Serves a definition while the context is open; leaving it drains, then closes what the service opened.

    A given `runtime` stays open. `replace`: take a unix socket over from a running server, once ready. `settle` is
    called when the service is built, before it takes calls.
    Raises config.ConfigError if the settings cannot be served, before the service is built.
    """
    own = Telemetry(definition.name, settings.telemetry) if runtime is None else None
    if runtime is None:
        telemetry = own or Telemetry(definition.name)
        runtime = Runtime(definition.name, telemetry, LocalServers(telemetry))
    try:
        server = _Server(definition.name, settings.server, runtime.telemetry, replace=replace)
        async with server.listening(), definition.build(settings, runtime) as services:
            settle()
            await warm_up(services)
            await server.open(services)
            try:
                yield Running(server.address, runtime.telemetry.metrics_address, server.health, runtime)
            finally:
                await server.drain()
    finally:
        if own is not None:
            await own.close()


class _Server:
    def __init__(self, name: str, settings: config.Server, telemetry: Telemetry, *, replace: bool) -> None:
        self._name = name
        self._settings = settings
        self._telemetry = telemetry
        self._replace = replace
        self._routes = Routes(name)
        self._stack: ServerStack | None = None
        self._streams: StreamDemultiplexer | None = None
        self._unix: UnixListener | None = None
        self._frames: FrameListener | None = None
        self._becoming: asyncio.Future[None] | None = None
        self._end_waits: list[Callable[[], None]] = []
        self.address = settings.listen
        self.health = Health(telemetry)
        self._grpc = grpc.aio.server(  # noqa: TID251 - this is where servers are made
            handlers=[self._routes],
            interceptors=telemetry.traces.server_interceptors() if telemetry.traces else None,
            options=_options(settings),
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """The port, bound; health answers NOT_SERVING and everything else UNAVAILABLE until `open`."""
        await self.health.attach(self._routes)
        if self._settings.listen.startswith("unix:"):
            path = Path(self._settings.listen.removeprefix("unix:"))
            self._unix, self._frames = UnixListener(path), FrameListener(path)
            if not self._replace:
                self._unix.check_free()
            self._unix.bind(lambda own: self._grpc.add_insecure_port(f"unix:{own}"))
        else:
            self.address = bind_tcp(self._grpc, self._settings, self._telemetry)
        try:
            await self._grpc.start()
            if self._unix is not None and not self._replace:
                self._unix.publish()
            yield
        finally:
            await self._stop(0)
            if self._unix is not None:
                self._unix.close()

    async def open(self, services: Sequence[Service]) -> None:
        """Takes calls for the services from now on."""
        bound = bind(services)
        self._stack = server_stack(self._name, self._settings, self._telemetry)
        self._end_waits = [service.end_waits for service in services if service.end_waits is not None]
        names = [service.descriptor.full_name for service in services]
        self._introspect(names)
        peer_of = self._peer_of()
        self._routes.open({path: rpc_handler(b, self._stack.serve, peer_of) for path, b in bound.items()})
        await self._open_frames(bound, self._stack)
        await self.health.know(names)
        waits = [service.ready for service in services if service.ready is not None]
        if waits:
            self._becoming = asyncio.ensure_future(self._serve_after(waits))
        else:
            await self.health.set(serving=True)
        if self._unix is not None and self._replace:
            self._unix.publish()
        self._telemetry.log.info("serving", address=self.address, metrics=self._telemetry.metrics_address)

    async def _serve_after(self, waits: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        await asyncio.gather(*(wait() for wait in waits))
        await self.health.set(serving=True)

    async def drain(self) -> None:
        """Says NOT_SERVING, waits for that to be noticed, and lets the calls in flight finish."""
        if self._becoming is not None:
            self._becoming.cancel()
        await self.health.set(serving=False)
        await asyncio.sleep(self._settings.drain_notice_s)
        self.health.end()
        for end_waits in self._end_waits:
            end_waits()
        # Calls that still arrive before the stop are served, not refused, so that none is lost.
        await self._stop(self._settings.drain_s)
        if self._stack is not None:
            if self._stack.shed.in_flight:
                self._telemetry.log.warning(
                    "calls cut off by the end of the drain", calls=self._stack.shed.in_flight
                )
            self._stack.shed.close()
        self._telemetry.log.info("drained")

    async def _open_frames(self, bound: dict[str, Bound], stack: ServerStack) -> None:
        if self._frames is None:
            return
        answers = {path: answering(b, stack.serve) for path, b in bound.items()}
        self._streams = StreamDemultiplexer(
            {**answers, HEALTH: self.health.check}, UNIX_PEER, self._settings.max_message_bytes
        )
        await self._frames.listen(self._streams.accept)

    async def _stop(self, within_s: float) -> None:
        """Takes no new connections, and waits so long for the calls in flight."""
        if self._frames is not None:
            # Before clients are told to leave, so that they connect to a successor.
            self._frames.close()
        drains = [self._streams.drain(within_s)] if self._streams is not None else []
        await asyncio.gather(self._grpc.stop(within_s or None), *drains)

    def _peer_of(self) -> Any:
        if self._unix is not None:
            return lambda _context: UNIX_PEER
        if self._settings.tls is None:
            plain = Peer("tcp")
            return lambda _context: plain
        return lambda context: Peer("tls", names=names_of(context.auth_context))

    def _introspect(self, names: list[str]) -> None:
        known = [*names, "grpc.health.v1.Health", reflection.SERVICE_NAME]
        servicer = reflection.aio.ReflectionServicer(known)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, self._routes)
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), self._routes)


def _options(settings: config.Server) -> list[tuple[str, int]]:
    age = settings.max_connection_age_s if settings.tls is not None else 0
    ages = {"age": age, "age_grace": age + settings.drain_s} if age else {}
    return [
        *((f"grpc.max_connection_{name}_ms", round(seconds * 1000)) for name, seconds in ages.items()),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Two servers on one port would share its calls at random; here that is always a mistake.
        ("grpc.so_reuseport", 0),
        ("grpc.enable_channelz", 1),
        # A dead peer is noticed within 30 s; clients may ping as often as hop's client does.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        # Trailers hold an ErrorInfo; 8 KiB would be enough, but proxies add metadata.
        ("grpc.max_metadata_size", 16 * 1024),
    ]
