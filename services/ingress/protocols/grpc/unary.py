"""Unary gRPC calls over ASGI. This is the hot path, so it does only what the protocol requires.

`Gates`: what the application reports to Envoy, so that calls that will certainly be refused need not reach Python. Envoy gives
each credential a name (a gate) and numbers its calls (envoy/templates/shedding.lua). When load is high, replies name
the newest call seen from the credential, and for how many more calls there is room. Envoy lets only that many through, plus one
at intervals. The header is internal: Envoy removes it from the requests of callers and from our replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.admission.admission_control import AdmissionControl
from services.ingress.admission.quotas import QuotaFault
from services.ingress.protocols.asgi import Send
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.entry import UnaryEntry
from services.ingress.protocols.grpc import frames
from services.ingress.protocols.unary import FramedProtocol, Intake
from services.ingress.reporting.metrics import Shed
from services.ingress.request_context import RequestContext

HEADER = b"x-headrace-gate"
Headers = list[tuple[bytes, bytes]]
_PLENTY = b"-"
_FOR_ROOM = frozenset({Reason.REASON_OVERLOADED, Reason.REASON_QUOTA_EXCEEDED})
# If no call was refused at a gate for this long, the reply says that there is plenty of room again.
_CALM_S = 1.0
# Maximum number of gates: as many as Envoy has, and some from before Envoy last cleared its table.
_MOST = 20_000


class Gates:
    """The state of each gate. Without Envoy's filter there are no gates, and nothing is reported. `clock`: monotonic seconds."""

    def __init__(self, admission: AdmissionControl, clock: Callable[[], float]) -> None:
        self._admission = admission
        self._clock = clock
        # For each gate: the number of its newest call.
        self._seen: dict[bytes, int] = {}
        # For each gate: the reason of the last refusal that was sent with its name. Envoy repeats this refusal.
        self._reasons: dict[bytes, Reason] = {}
        # For each gate that was sent a number for its room, and has not been sent "plenty" since: time of its last refused call.
        self._narrow: dict[bytes, float] = {}

    def come(self, context: RequestContext) -> Shed | None:
        """Records a call. Returns the calls of the same credential that Envoy refused since the previous one that came here."""
        header = context.headers.get(HEADER)
        if header is None:
            return None
        gate, call, shed = header.split()
        context.gate, number = gate, int(call)
        # Calls arrive almost in order.
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
        """The headers for the reply: none while there is room for as many more calls as are in flight."""
        gate, credential = context.gate, context.credential
        if not gate or credential is None:
            return []
        tenant = credential.tenant
        room = self._admission.headroom(tenant.name, tenant.priority)
        if fault is not None and fault.code is Code.RESOURCE_EXHAUSTED:
            if fault.reason not in _FOR_ROOM:
                return []  # for example too large: Envoy would repeat it to other calls
            if isinstance(fault, QuotaFault):
                if not fault.empty:
                    return []  # a smaller call may pass
                room = 0
            elif fault.reason == Reason.REASON_QUOTA_EXCEEDED:
                return []  # not the tenant's quota, but what a pipeline or a session may use
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


_TYPE = b"application/grpc"
_OK = [(b"grpc-status", b"0")]
_ENCODINGS = (b"grpc-accept-encoding", b"identity,gzip")


class Convoy:
    """Replies that become ready in the same turn of the event loop are sent together, at its end. One per event loop.

    The rows of a batch are answered in one turn. If they were sent one by one, Envoy's thread would
    finish each reply before the next one comes. Sending them together costs that thread 25 % less and the caller 20 % less
    (load/RESULTS.md).
    """

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def join(self) -> Awaitable[None]:
        """Waits until all replies that are ready in this turn have joined."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._leave)
        place = loop.create_future()
        self._waiting.append(place)
        return place

    def _leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        for place in waiting:
            # A reply whose caller has disconnected is cancelled.
            if not place.done():
                place.set_result(None)


class UnaryGrpc(FramedProtocol):
    """Serves `content-type: application/grpc`, `+proto` and `+json`."""

    def __init__(self, intake: Intake) -> None:
        super().__init__(intake)
        self._gates = Gates(intake.door.admission, intake.door.clock)
        self.join = Convoy().join

    def shed(self, context: RequestContext) -> Shed | None:
        return self._gates.come(context)

    async def reply(self, send: Send, data: bytes, codec: Codec, context: RequestContext) -> None:
        headers = [
            (b"content-type", _TYPE if codec.name == "proto" else b"%b+%b" % (_TYPE, codec.name.encode())),
            (b"x-request-id", context.header_id.encode()),
            *context.replay_headers(),
            *self._gates.told(context),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        body = frames.PREFIX.pack(0, len(data)) + data
        await send({"type": "http.response.body", "body": body, "more_body": False})
        await send({"type": "http.response.trailers", "headers": _OK, "more_trailers": False})

    async def fail(self, send: Send, fault: Fault, context: RequestContext) -> None:
        """A response that has only headers (gRPC's "trailers-only")."""
        headers = [
            (b"content-type", _TYPE),
            _ENCODINGS,
            (b"x-request-id", context.header_id.encode()),
            *frames.status_headers(fault),
            *context.replay_headers(),
            *self._gates.told(context, fault),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


ENTRY = UnaryEntry(
    "grpc",
    {
        b"application/grpc": "proto",
        b"application/grpc+proto": "proto",
        b"application/grpc+json": "json",
    },
    UnaryGrpc,
)
