"""A service as hop sees it: a name, its settings class and a function that builds it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.descriptor import ServiceDescriptor

from headrace.hop import config

if TYPE_CHECKING:
    from headrace.hop.client.dial import Client
    from headrace.hop.process.telemetry import Telemetry
    from headrace.hop.transport.in_process import LocalServers

C = TypeVar("C", bound=config.ServiceSettings)


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service and the object whose methods, named like the RPCs, serve it.

    A method takes `(request, call: Call)` and returns the reply; none streams.
    """

    descriptor: ServiceDescriptor
    servicer: object
    # Its methods read `Call.payload`: callers in the same process need not write all data into the message.
    takes_payload: bool = False
    # Warm-up: runs the code that a call runs, so that the first caller does not pay for it. Awaited after the process's
    # memory is set up and before health says SERVING.
    warm_up: Callable[[], Coroutine[Any, Any, None]] | None = None
    # Awaited while calls are answered already; health says SERVING once it has ended. For what may take for ever, such as a
    # database that is away: callers hear why from the answers.
    ready: Callable[[], Coroutine[Any, Any, None]] | None = None
    # Called when the drain begins: calls that wait for something must end then, or each stop takes as long as they wait.
    end_waits: Callable[[], None] | None = None


async def warm_up(services: Iterable[Service]) -> None:
    """Runs the warm-up of each service that has one, one after another."""
    for service in services:
        if service.warm_up is not None:
            await service.warm_up()


@dataclass(frozen=True, slots=True)
class Runtime:
    """What `build` of a service gets from hop: the process's telemetry, and a function to reach other services."""

    name: str
    telemetry: Telemetry
    # The services hosted in this process; empty if each service has its own process.
    local: LocalServers

    def dial(self, callee: str, settings: config.ClientSettings | config.CalleeSettings) -> Client:
        """A client of another service. The caller closes it. Raises config.ConfigError for unusable TLS files."""
        from headrace.hop.client.dial import Client

        if isinstance(settings, config.CalleeSettings):
            settings = settings.client()
        if settings.tls is None:
            return Client(callee, settings, self)
        from headrace.hop.transport.tls import TlsError

        try:
            return Client(callee, settings, self)
        except TlsError as error:
            raise config.ConfigError(f"{callee}.tls: {error}") from error


@dataclass(frozen=True, slots=True)
class Definition(Generic[C]):
    """One service: assembled by its `wiring.py`, run by `hop.run` or hosted with others in one process."""

    name: str
    config: type[C]
    build: Callable[[C, Runtime], AbstractAsyncContextManager[Sequence[Service]]]
