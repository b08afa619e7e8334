"""Every call of every protocol passes through here: credential, admission, handler, outcome, report."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from headrace.hop.call import Method, methods_of
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.admission.admission_control import AdmissionControl, no_slot
from services.ingress.admission.quotas import Quotas
from services.ingress.admission.shedder import Shedder
from services.ingress.auth.authenticator import Authenticator
from services.ingress.auth.encryption_guard import EncryptionGuard
from services.ingress.documents.catalog import Credential, require
from services.ingress.reporting.reporter import Reporter
from services.ingress.request_context import RequestContext, begin

if TYPE_CHECKING:
    from services.ingress.oip.groups.calls import GroupedInfer

Handler = Callable[[Any, RequestContext], Awaitable[Any]]


class _Rule(NamedTuple):
    """What an RPC asks of its callers; the fields are those of `Operation`."""

    scope: str
    large: bool = False
    inference: bool = False


# Of RPCs that ask for something else than the others of their service.
_RULES: Mapping[str, _Rule] = {
    # Answered without a credential: the answers reveal nothing about pipelines.
    **dict.fromkeys(("ServerLive", "ServerReady", "ServerMetadata"), _Rule("")),
    # They run a model, so they need a slot of admission control.
    **dict.fromkeys(("ModelInfer", "Predict"), _Rule("predict", large=True, inference=True)),
    # They take long, so they have no slot of those for inferences: they would hold up predictions.
    "Explain": _Rule("predict", large=True),
    # Thousands of small things in one message.
    "RecordOutcomes": _Rule("outcomes", large=True),
    # For operators. These operations take long; the last of them bring documents.
    **dict.fromkeys(("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"), _Rule("operate")),
    **dict.fromkeys(
        ("CommitRelease", "ApplyRelease", "DeployPipeline", "StartRollout"), _Rule("operate", large=True)
    ),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One unary RPC of the door."""

    method: Method[Any, Any]
    handler: Handler
    inference: bool
    # The scope that the credential must allow; "" for operations that need no credential.
    scope: str
    # Whether its message may have the full size; others hold a few names.
    large: bool
    # Whether it counts against the tenant's limit of calls in flight.
    counted: bool
    # Its handler, if that also reads the messages in the binary format.
    grouped: GroupedInfer | None = None


def operations(service: ServiceDescriptor, *servicers: object, scope: str = "read") -> dict[str, Operation]:
    """The unary RPCs of a service by path ("/package.Service/Method"), each with the servicer that implements it. `scope`: what
    they need."""

    def handler(name: str) -> Handler:
        [servicer] = (s for s in servicers if hasattr(s, name))
        found: Handler = getattr(servicer, name)
        return found

    def operation(method: Method[Any, Any]) -> Operation:
        rule = _RULES.get(method.name, _Rule(scope))
        counted = rule.scope not in ("", "read")
        return Operation(method, handler(method.name), rule.inference, rule.scope, rule.large, counted)

    unary = (m for m in methods_of(service) if not (m.client_streaming or m.server_streaming))
    return {method.path: operation(method) for method in unary}


class Door:
    """Serves operations. `clock`: monotonic seconds."""

    def __init__(
        self,
        operations: Mapping[str, Operation],
        authenticator: Authenticator,
        encryption: EncryptionGuard,
        reporter: Reporter,
        quotas: Quotas,
        admission: AdmissionControl,
        trace_ratio: float,
        clock: Callable[[], float],
    ) -> None:
        self.operations = operations
        self.clock = clock
        self.in_flight = 0
        self._authenticator = authenticator
        self._encryption = encryption
        self._reporter = reporter
        self._quotas = quotas
        self.admission = admission
        self.shedder = Shedder(admission, reporter.shed, clock)
        self._trace_ratio = trace_ratio
        reporter.metrics.in_flight.set_function(lambda: self.in_flight)

    def begin(
        self, method: str, headers: Mapping[bytes, bytes], received: float | None = None, path: str = ""
    ) -> RequestContext:
        """The context of a request. `headers`: names in lower case; `received`: when they came (now, if nobody knows)."""
        context = begin(method, headers, self.clock() if received is None else received, self._trace_ratio)
        context.path = path
        return context

    def admit(self, operation: Operation, context: RequestContext) -> None:
        """Checks from the headers alone whether a call is allowed: credential, scope, encryption at rest, the tenant's
        concurrency limit, and whether there is a slot for an inference. Protocols call this before they read the body; `call`
        does it for the others. `call` or `refuse` must follow.

        Raises Fault UNAUTHENTICATED, PERMISSION_DENIED, FAILED_PRECONDITION; RESOURCE_EXHAUSTED if a limiter refuses.
        """
        if context.entered:
            return
        context.entered = True
        self.in_flight += 1
        if not operation.scope:
            return
        tenant = self.prove(operation, context).tenant
        context.inference = operation.inference
        if operation.counted:
            quota = context.quota = self._quotas.acquire(tenant)
            if not operation.inference:
                # An inference is charged later, when its rows are known.
                quota.charge(1, 0)
        if operation.inference:
            if not self.admission.acquire(tenant.name, tenant.priority):
                raise no_slot()
            context.admission = self.admission

    def prove(self, operation: Operation, context: RequestContext) -> Credential:
        """Returns the caller's credential, if it allows the operation. Acquires nothing that must be released.

        Raises Fault UNAUTHENTICATED, PERMISSION_DENIED, FAILED_PRECONDITION.
        """
        credential = context.credential
        if credential is None:
            credential = context.credential = self._authenticator.authenticate(context)
        require(credential, operation.scope)
        if credential.tenant.requires_encryption:
            self._encryption.check(credential.tenant)
        return credential

    async def call(self, operation: Operation, request: Any, context: RequestContext) -> Any:
        """Authenticates and runs one unary call, and reports it. Returns the reply: a message, or the bytes of one if the handler
        has written it. Raises only Fault and CancelledError.
        """
        context.whole = True
        try:
            self.admit(operation, context)
            return await operation.handler(request, context)
        except Fault as fault:
            context.fault = fault.copy()
            raise
        except asyncio.CancelledError:
            context.fault = Fault(Code.CANCELLED, Reason.REASON_CANCELLED, "the caller went away")
            raise
        except Exception as error:
            self._reporter.unexpected(context.method, error, context.request_id)
            context.fault = internal(context)
            raise context.fault.copy() from error
        finally:
            self._done(context)

    def refuse(self, context: RequestContext, fault: Fault) -> Fault:
        """Reports a request that never became a call (unreadable, too large, no such method)."""
        # A copy, because the raised fault refers to its frames, and the frames refer to the context and the message. Such a
        # cycle would stay in memory until the garbage collector runs.
        context.fault = fault.copy()
        self._done(context)
        return fault

    def broken(self, context: RequestContext, error: Exception) -> Fault:
        """Reports a bug in a protocol's part of a call. Returns the fault to send to the caller."""
        self._reporter.unexpected(context.method, error, context.request_id)
        return self.refuse(context, internal(context))

    def _done(self, context: RequestContext) -> None:
        if context.entered:
            context.entered = False
            self.in_flight -= 1
        if context.quota is not None:
            context.quota.release()
            context.quota = None
        fault = context.fault
        if context.admission is not None:
            context.admission = None
            took, allowed, overloaded = self.clock() - context.received, context.time_allowed, False
            if fault is not None:
                # A message that was never complete is not a sign of overload.
                overloaded = context.whole and _for_load(fault)
                if not overloaded and fault.code is not Code.CANCELLED:
                    # How soon a request failed for another reason does not show how long an answer takes.
                    allowed = math.inf
            self.admission.release(context.tenant, took, allowed, overloaded, context.slots)
        if fault is not None and fault.code is Code.PERMISSION_DENIED:
            self._reporter.security("denied", context, fault.metadata)
        self._reporter.done(context)

    def unexpected(self, method: str, error: Exception) -> None:
        """Logs a bug in a protocol when there is no request context."""
        self._reporter.unexpected(method, error, "")

    async def stream(
        self,
        operation: Operation,
        serve: Callable[[AsyncIterator[Any], Callable[[Any], Awaitable[Any]]], AsyncIterator[Message]],
        requests: AsyncIterator[Any],
        context: RequestContext,
    ) -> AsyncIterator[Message]:
        """Serves a stream in which every message is a call of `operation`. Raises Fault."""
        try:
            self.prove(operation, context)
        except Fault as fault:
            self.refuse(context, fault)
            raise

        def call(request: Any) -> Awaitable[Any]:
            return self.call(operation, request, context.of_message(self.clock()))

        async for reply in serve(requests, call):
            yield reply


def _for_load(fault: Fault) -> bool:
    """Whether a call failed because of overload or because of its deadline."""
    return fault.code is Code.DEADLINE_EXCEEDED or fault.reason == Reason.REASON_OVERLOADED


def internal(context: RequestContext) -> Fault:
    """The fault that a caller gets when there is a bug."""
    return Fault(
        Code.INTERNAL,
        Reason.REASON_INTERNAL,
        f"unexpected error; tell the operators the request id {context.request_id}",
        metadata={"request_id": context.request_id},
    )
