"""What the application tells Envoy, so that refusals that are sure to come need not reach Python.

Envoy names the credentials that come to it, and numbers each one's calls (deploy/envoy/shedding.lua). When the door gets
crowded, replies say up to which the calls of the credential were seen, and how many more there is room for: Envoy lets no
more than these through, and one now and then. The header never leaves Envoy: it drops what callers send, and what we answer.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.admission.admission_control import AdmissionControl
from services.ingress.admission.quotas import QuotaFault
from services.ingress.reporting.metrics import Shed
from services.ingress.request_context import RequestContext

HEADER = b"x-headrace-gate"
Headers = list[tuple[bytes, bytes]]
_PLENTY = b"-"
_FOR_ROOM = frozenset({Reason.REASON_OVERLOADED, Reason.REASON_QUOTA_EXCEEDED})
# A gate at which nobody was refused for so long is told that there is plenty of room again.
_CALM_S = 1.0
# Gates at most: as many as Envoy has, and some of an earlier life of its.
_MOST = 20_000


class Gates:
    """What is known of each gate. Without Envoy's filter there are none, and nothing is told. `clock`: monotonic seconds."""

    def __init__(self, admission: AdmissionControl, clock: Callable[[], float]) -> None:
        self._admission = admission
        self._clock = clock
        # By gate: the number of its newest call.
        self._seen: dict[bytes, int] = {}
        # By gate: the reason of the last refusal that was told with it, which is what Envoy repeats.
        self._reasons: dict[bytes, Reason] = {}
        # When the last call was refused, at the gates that were told how much room there is, and not yet that it is plenty.
        self._narrow: dict[bytes, float] = {}

    def come(self, context: RequestContext) -> Shed | None:
        """Notes a call; those of the same credential that were refused in Envoy since the last that came."""
        header = context.headers.get(HEADER)
        if header is None:
            return None
        gate, call, shed = header.split()
        context.gate, number = gate, int(call)
        # They come nearly in order.
        if number > self._seen.get(gate, 0):
            if len(self._seen) >= _MOST:
                self._seen.clear()
                self._narrow.clear()
                self._reasons.clear()
            self._seen[gate] = number
        if shed == b"0":
            return None
        self._narrow[gate] = context.received
        return Shed(int(shed), self._reasons.get(gate, Reason.REASON_OVERLOADED))

    def told(self, context: RequestContext, fault: Fault | None = None) -> Headers:
        """What the reply has to carry: nothing while there is room for as many again as there are."""
        gate, credential = context.gate, context.credential
        if not gate or credential is None:
            return []
        tenant = credential.tenant
        room = self._admission.headroom(tenant.name, tenant.priority)
        if fault is not None and fault.code is Code.RESOURCE_EXHAUSTED:
            if fault.reason not in _FOR_ROOM:
                return []  # too large, say: Envoy would repeat it to others
            if isinstance(fault, QuotaFault):
                if not fault.empty:
                    return []  # a smaller call may pass
                room = 0
            self._narrow[gate] = self._clock()
            self._reasons[gate] = fault.reason
        elif room >= self._admission.in_flight:
            since = self._narrow.get(gate)
            if since is None:
                return []
            if self._clock() - since > _CALM_S:
                del self._narrow[gate]
                return [(HEADER, b"%b %d %b" % (gate, self._seen.get(gate, 0), _PLENTY))]
        self._narrow.setdefault(gate, context.received)
        return [(HEADER, b"%b %d %d" % (gate, self._seen.get(gate, 0), room))]
