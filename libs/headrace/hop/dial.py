"""The client of another service. Needs no more than grpcio and protobuf; what a Runtime brings is used if there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from google.protobuf.message import Message

from headrace.hop import faults, resolve
from headrace.hop.client_settings import ClientRules
from headrace.hop.client_stack import compose
from headrace.hop.folding import Folding
from headrace.hop.layers.coalesce import Coalescer
from headrace.hop.method import Method
from headrace.hop.observer import NullObserver, Observer
from headrace.hop.outgoing import Outgoing
from headrace.hop.replicas import ReplicaSet
from headrace.hop.resolve import Resolver
from headrace.hop.retry_budget import RetryBudget
from headrace.hop.transport import GrpcTransport, LocalTransport, Transport

if TYPE_CHECKING:
    from headrace.hop.definition import Runtime

Item = TypeVar("Item")
Result = TypeVar("Result")
Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)
RespOut = TypeVar("RespOut", covariant=True)
ReqIn = TypeVar("ReqIn", contravariant=True)


class UnaryCall(Protocol[ReqIn, RespOut]):
    """A method ready to be called."""

    def __call__(self, request: ReqIn, /, *, deadline: float, key: str = "") -> Coroutine[Any, Any, RespOut]:
        """`deadline` in monotonic seconds (inf: the default timeout); calls of one `key` prefer one replica.

        Raises Fault, and nothing else.
        """
        ...


class Client:
    """A callee's replicas and the layers around each call to them. Made and used on one event loop.

    Raises ValueError if the target cannot be read, Fault from every call that fails.
    """

    def __init__(
        self,
        callee: str,
        settings: ClientRules,
        runtime: Runtime | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.callee = callee
        self._settings = settings
        self._runtime = runtime
        self._observer = observer or _observer(callee, runtime)
        self._coalescers: list[Coalescer[Any, Any]] = []
        self._closed = False
        draw = random.random
        self.replicas = ReplicaSet(settings, self._connect, draw, self._observer.replica_added)
        budget = RetryBudget(settings.retry.budget_ratio, settings.retry.budget_reserve)
        self._stack = compose(callee, settings, self.replicas, budget, draw, self._observer)
        self._resolver = Resolver(
            resolve.parse(settings.target), settings.resolve_every_s, self.replicas.update
        )

    def unary(self, method: Method[Req, Resp]) -> UnaryCall[Req, Resp]:
        """The method as a coroutine function of one request."""
        stack = self._stack

        async def call(request: Req, /, *, deadline: float, key: str = "") -> Resp:
            if self._closed:
                raise faults.closed(self.callee)
            reply: Resp = await stack(Outgoing(method, request, deadline, key, 1))
            return reply

        return call

    def coalesced(
        self, method: Method[Req, Resp], folding: Folding[Item, Result, Req, Resp]
    ) -> Callable[[Item], Coroutine[Any, Any, Result]]:
        """The method as a coroutine function of one item; items that wait at the same time share calls."""
        coalescer: Coalescer[Item, Result] = Coalescer(
            self.callee,
            method,
            folding,
            self._settings.coalesce,
            self._settings.default_timeout_s,
            self._stack,
        )
        self._coalescers.append(coalescer)
        self._observer.waiting(method.name, coalescer)
        return coalescer.submit

    async def close(self) -> None:
        """Answers what waits, then closes the channels. Later calls raise Fault UNAVAILABLE."""
        self._closed = True
        await asyncio.gather(*(c.close() for c in self._coalescers))
        await self._resolver.close()
        await self.replicas.close()

    def _connect(self, address: str) -> Transport:
        if address != "local":
            return GrpcTransport(self.callee, address, self._settings)
        if self._runtime is None:
            raise ValueError(f"target of {self.callee} is local, but no services are hosted in this process")
        return LocalTransport(self.callee, self._runtime.local)


def _observer(callee: str, runtime: Runtime | None) -> Observer:
    """Metrics and traces of the process, if it has any; the libraries are imported only then."""
    if runtime is None:
        return NullObserver()
    from headrace.hop.client_metrics import ClientInstruments, MetricsObserver

    return MetricsObserver(callee, runtime.telemetry.once(ClientInstruments))
