"""What a service is to hop: a name, its settings and how it is built."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
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

    A method takes `(request, call: Call)`, or an async iterator of requests when the client streams; it returns
    the reply, or is an async generator of replies when the server streams.
    """

    descriptor: ServiceDescriptor
    servicer: object
    # Its methods know `Call.payload`: callers in the same process need not write everything into the message.
    takes_payload: bool = False
    # Passes the way of a call, so that no caller is the first to. Awaited when the process's memory is settled, before
    # health says SERVING.
    warm_up: Callable[[], Coroutine[Any, Any, None]] | None = None
    # Looks at the path and the metadata of a gRPC call before its message is read, and raises Fault for one that may not be
    # made. Calls that hop's clients carry over a stream do not pass it: it is for callers from outside.
    precheck: Callable[[str, Mapping[str, str]], None] | None = None


async def warm_up(services: Iterable[Service]) -> None:
    """Each service has passed the way of its calls, if it has one to pass."""
    for service in services:
        if service.warm_up is not None:
            await service.warm_up()


@dataclass(frozen=True, slots=True)
class Runtime:
    """What hop hands a service while it is built: its process's telemetry, and the way to other services."""

    name: str
    telemetry: Telemetry
    # The services hosted in this process (the together shape); empty in the apart shape.
    local: LocalServers

    def dial(self, callee: str, settings: config.ClientSettings) -> Client:
        """A client of another service. The caller closes it."""
        from headrace.hop.client.dial import Client

        return Client(callee, settings, self)


@dataclass(frozen=True, slots=True)
class Definition(Generic[C]):
    """One service: assembled by its `wiring.py`, run by `hop.run` or hosted with others in one process."""

    name: str
    config: type[C]
    build: Callable[[C, Runtime], AbstractAsyncContextManager[Sequence[Service]]]
