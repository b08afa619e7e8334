"""Calls that would certainly be refused are refused before anything is made for them: thousands of them in a second would leave
no time for those who are let in.

Admission control and quotas alone decide who is refused, and why. When they have refused a call for want of room, further calls
of the same credential get the same answer here until there is room again. One call passes at intervals, since quotas fill by
time. Only calls that come by the lane (services/ingress/lane) are refused here: they are many, and their headers say enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.admission.admission_control import AdmissionControl
from services.ingress.admission.quotas import QuotaFault
from services.ingress.protocols.asgi import Headers
from services.ingress.reporting.metrics import Shed
from services.ingress.request_context import RequestContext

# A call passes at this interval, whatever was refused before.
_PROBE_S = 0.02
# A refusal that is older says nothing any more.
_FORGET_S = 1.0
# Credentials that are refused at the same time. Each was found right before.
_MOST = 10_000
_TYPE = b"application/grpc"
_REQUEST_ID = b"x-request-id"


class _Refused:
    """A credential whose call was refused. `reply`: the headers that said so; `calls`: refused here since."""

    __slots__ = ("calls", "context", "passed", "reason", "reply", "since")

    def __init__(self, context: RequestContext, reason: Reason, reply: Headers, now: float) -> None:
        self.context = context
        self.reason = reason
        self.reply = reply
        self.since = self.passed = now
        self.calls = 0


class Shedder:
    """`report`: counts the calls that were refused here; `clock`: monotonic seconds."""

    def __init__(
        self,
        admission: AdmissionControl,
        report: Callable[[RequestContext, Shed], None],
        clock: Callable[[], float],
    ) -> None:
        self._admission = admission
        self._report = report
        self._clock = clock
        # By the value of the header that brings the credential.
        self.refusals: dict[bytes, _Refused] = {}

    def refused(self, context: RequestContext, fault: Fault, reply: Headers) -> None:
        """A call was refused by an answer of headers alone. `reply`: these, without the request's id."""
        credential = _credential(context.headers)
        if context.credential is None or credential is None or not _wants_room(fault):
            return
        known = self.refusals.get(credential)
        if known is None and len(self.refusals) >= _MOST:
            self.refusals.clear()
        found = self.refusals[credential] = _Refused(context, fault.reason, reply, self._clock())
        if known is not None:
            found.calls = known.calls

    def answered(self, context: RequestContext) -> None:
        """A call was answered: there is room for its credential. Needed only while there are `refusals`."""
        credential = _credential(context.headers)
        if credential in self.refusals:
            self._report_refused(self.refusals.pop(credential))

    def refusal(self, headers: Headers, before: int = 0) -> Headers | None:
        """The headers of the answer to a call that is refused here; None: it passes. `headers`: the call's; `before`: how many
        of its credential were refused before they came here."""
        if not self.refusals:
            return None
        own = dict(headers)
        credential = _credential(own)
        refused = None if credential is None else self.refusals.get(credential)
        if credential is None or refused is None or own.get(b"content-type") != _TYPE:
            return None
        now = self._clock()
        if now - refused.since > _FORGET_S:
            self._report_refused(self.refusals.pop(credential))
            return None
        if now - refused.passed >= _PROBE_S or self._has_room(refused):
            refused.passed = now
            self._report_refused(refused)
            return None
        refused.calls += 1 + before
        return [*refused.reply, (_REQUEST_ID, own.get(_REQUEST_ID, b""))]

    def refused_before(self, context: RequestContext, calls: int) -> None:
        """A call passed before which others of its credential were refused, as too many waited."""
        self._report(context, Shed(calls, Reason.REASON_OVERLOADED))

    def _has_room(self, refused: _Refused) -> bool:
        if refused.reason != Reason.REASON_OVERLOADED:
            return False
        tenant = refused.context.caller.tenant
        return self._admission.headroom(tenant.name, tenant.priority) >= 1

    def _report_refused(self, refused: _Refused) -> None:
        if refused.calls:
            calls, refused.calls = refused.calls, 0
            self._report(refused.context, Shed(calls, refused.reason))


def _credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    return headers.get(b"authorization") or headers.get(b"x-api-key")


def _wants_room(fault: Fault) -> bool:
    """Whether all calls of that credential get this answer for now: no other call of it may be smaller, or go elsewhere."""
    if fault.code is not Code.RESOURCE_EXHAUSTED:
        return False
    if isinstance(fault, QuotaFault):
        return fault.empty
    return fault.reason == Reason.REASON_OVERLOADED
