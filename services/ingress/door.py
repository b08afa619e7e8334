"""The door itself: every call, of whatever protocol, passes here: credential, handler, outcome, report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.method import Method, methods_of
from services.ingress.admitting import Admission
from services.ingress.authenticating import Authenticator
from services.ingress.exchange import Exchange, begin
from services.ingress.metrics import Shed
from services.ingress.reporting import Reporter

Handler = Callable[[Any, Exchange], Awaitable[Message]]
# Answered without a credential: they say nothing of pipelines.
_OPEN = frozenset({"ServerLive", "ServerReady", "ServerMetadata"})
# They cost what a model costs; the others are not held up by them.
_INFERENCES = frozenset({"ModelInfer", "Predict"})
# Time in which a good deal of what is in flight ends.
_RETRY_AFTER_S = 0.1


@dataclass(frozen=True, slots=True)
class Operation:
    """One unary RPC of the door."""

    method: Method[Any, Any]
    handler: Handler
    open: bool
    inference: bool


def operations(service: ServiceDescriptor, *servicers: object) -> dict[str, Operation]:
    """The unary RPCs of a service by path ("/package.Service/Method"), each by the servicer that has it."""

    def handler(name: str) -> Handler:
        [servicer] = (s for s in servicers if hasattr(s, name))
        found: Handler = getattr(servicer, name)
        return found

    return {
        m.path: Operation(m, handler(m.name), m.name in _OPEN, m.name in _INFERENCES)
        for m in methods_of(service)
        if not (m.client_streaming or m.server_streaming)
    }


class Door:
    """Serves operations. `clock`: monotonic seconds."""

    def __init__(
        self,
        operations: Mapping[str, Operation],
        authenticator: Authenticator,
        reporter: Reporter,
        admission: Admission,
        trace_ratio: float,
        clock: Callable[[], float],
    ) -> None:
        self.operations = operations
        self.clock = clock
        self.in_flight = 0
        self._authenticator = authenticator
        self._reporter = reporter
        self.admission = admission
        self._trace_ratio = trace_ratio
        reporter.metrics.in_flight.set_function(lambda: self.in_flight)

    def begin(self, method: str, headers: Mapping[bytes, bytes]) -> Exchange:
        """The exchange of a request that comes now. `headers`: names in lower case."""
        return begin(method, headers, self.clock(), self._trace_ratio)

    def admit(self, operation: Operation, exchange: Exchange, shed: Shed | None = None) -> None:
        """Proves the caller and takes a place for an inference, once. `call` does it, too: a protocol that does it before
        it reads the message makes those cheap who are refused. `call` or `refuse` must follow. `shed`: calls of the same
        credential that were refused in Envoy before this one.

        Raises Fault UNAUTHENTICATED; RESOURCE_EXHAUSTED if there is no place.
        """
        if operation.open:
            return
        if exchange.credential is None:
            exchange.credential = self._authenticator.authenticate(exchange)
        if shed is not None:
            self._reporter.metrics.shed(exchange.tenant, shed)
        if operation.inference and not exchange.admitted:
            exchange.inference = True
            tenant = exchange.credential.tenant
            if not self.admission.enter(tenant.name, tenant.priority):
                raise _overloaded()
            exchange.admitted = True

    async def call(
        self,
        operation: Operation,
        request: Message,
        exchange: Exchange,
        join: Callable[[], Awaitable[None]] | None = None,
    ) -> Message:
        """Authenticates and runs one unary call, and reports it. Raises Fault, and nothing else but CancelledError.

        `join`: what a reply waits for before it leaves, while there are others on their way; a part of the call's time.
        """
        self.in_flight += 1
        try:
            self.admit(operation, exchange)
            reply = await operation.handler(request, exchange)
            if join is not None and self.in_flight > 1:
                await join()
            return reply
        except Fault as fault:
            exchange.fault = fault
            raise
        except asyncio.CancelledError:
            exchange.fault = Fault(Code.CANCELLED, Reason.REASON_CANCELLED, "the caller went away")
            raise
        except Exception as error:
            self._reporter.unexpected(exchange.method, error, exchange.request_id)
            exchange.fault = internal(exchange)
            raise exchange.fault from error
        finally:
            self.in_flight -= 1
            self._done(exchange)

    def authenticate(self, exchange: Exchange) -> None:
        """Proves the caller of a stream, before its first message. Raises Fault UNAUTHENTICATED."""
        try:
            exchange.credential = self._authenticator.authenticate(exchange)
        except Fault as fault:
            self.refuse(exchange, fault)
            raise

    def refuse(self, exchange: Exchange, fault: Fault) -> Fault:
        """Reports a request that never became a call (unreadable, too large, no such method)."""
        exchange.fault = fault
        self._done(exchange)
        return fault

    def _done(self, exchange: Exchange) -> None:
        if exchange.admitted:
            exchange.admitted = False
            took = self.clock() - exchange.received
            self.admission.leave(exchange.tenant, took, exchange.time_allowed, _for_load(exchange.fault))
        if exchange.fault is not None and exchange.fault.code is Code.PERMISSION_DENIED:
            self._reporter.security("denied", exchange, exchange.fault.metadata)
        self._reporter.done(exchange)

    def unexpected(self, method: str, error: Exception) -> None:
        """Tells of a bug in a protocol, where no exchange is at hand."""
        self._reporter.unexpected(method, error, "")

    async def stream(
        self,
        operation: Operation,
        serve: Callable[[AsyncIterator[Any], Callable[[Any], Awaitable[Any]]], AsyncIterator[Message]],
        requests: AsyncIterator[Any],
        exchange: Exchange,
    ) -> AsyncIterator[Message]:
        """Serves a stream whose every message is a call of `operation`. Raises Fault."""
        self.authenticate(exchange)

        def call(request: Any) -> Awaitable[Any]:
            return self.call(operation, request, exchange.of_message(self.clock()))

        async for reply in serve(requests, call):
            yield reply


def _overloaded() -> Fault:
    return Fault(
        Code.RESOURCE_EXHAUSTED,
        Reason.REASON_OVERLOADED,
        "there is more to do than can be done in time; try again later",
        retry_after_s=_RETRY_AFTER_S,
    )


def _for_load(fault: Fault | None) -> bool:
    """Whether a call failed for want of time or room."""
    if fault is None:
        return False
    return fault.code is Code.DEADLINE_EXCEEDED or fault.reason == Reason.REASON_OVERLOADED


def internal(exchange: Exchange) -> Fault:
    """What a caller is told of a bug."""
    return Fault(
        Code.INTERNAL,
        Reason.REASON_INTERNAL,
        f"unexpected error; tell the operators the request id {exchange.request_id}",
        metadata={"request_id": exchange.request_id},
    )
