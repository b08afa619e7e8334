"""InferenceService.RecordOutcomes: what became known of predictions, reported by the tenant that they were made for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.hop.call import unary
from headrace.hop.client.dial import UnaryCall
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.request_ids import MAX_CHARACTERS, request_key
from services.ingress.admission.quotas import charge
from services.ingress.faults import malformed_field
from services.ingress.request_context import RequestContext

RECORD = unary(monitoring_pb2.RecordOutcomesRequest, monitoring_pb2.RecordOutcomesResponse, idempotent=True)
MAX_OUTCOMES = 1000
# For callers without a deadline.
_TIMEOUT_S = 5.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z")
# Clocks of other machines go wrong by minutes, programs by whole units of time.
_AHEAD_S = 86_400.0


class OutcomesServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault.

    `record`: of the monitoring service, which stores all outcomes of a call or none; None: this installation stores none. `wall`:
    seconds since 1970.
    """

    def __init__(
        self,
        record: UnaryCall[monitoring_pb2.RecordOutcomesRequest, monitoring_pb2.RecordOutcomesResponse] | None,
        wall: Callable[[], float],
    ) -> None:
        self._record = record
        self._wall = wall

    async def RecordOutcomes(
        self, request: pb.RecordOutcomesRequest, context: RequestContext
    ) -> pb.RecordOutcomesResponse:
        tenant = context.caller.tenant.name
        if self._record is None:
            said = "this installation stores no outcomes"
            raise Fault(Code.FAILED_PRECONDITION, Reason.REASON_METHOD_UNKNOWN, said)
        count = len(request.outcomes)
        if not count:
            raise malformed_field("outcomes", "at least one is needed")
        if count > MAX_OUTCOMES:
            said = f"{count} outcomes in one call; at most {MAX_OUTCOMES}"
            about = {"outcomes": str(count), "limit": str(MAX_OUTCOMES)}
            raise Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_TOO_LARGE, said, metadata=about)
        # The call has been charged already; its outcomes cost no rows, but their bytes count.
        charge(0, context, request)
        latest = self._wall() + _AHEAD_S
        stored = monitoring_pb2.RecordOutcomesRequest(tenant=tenant)
        for i, outcome in enumerate(request.outcomes):
            kind = _checked(outcome, f"outcomes[{i}]", latest)
            identity, value = request_key(outcome.request_id), {kind: getattr(outcome, kind)}
            added = stored.outcomes.add(request_id=identity, row=outcome.row, name=outcome.name, **value)
            if outcome.HasField("time"):
                added.time.CopyFrom(outcome.time)
        reply = await self._record(stored, deadline=context.deadline_within(_TIMEOUT_S))
        return pb.RecordOutcomesResponse(
            accepted_count=reply.accepted_count, unknown_count=reply.unknown_count
        )


def _checked(message: pb.Outcome, key: str, latest: float) -> str:
    """Which field has its value. `latest`: the latest time at which it can have been so. Raises Fault."""
    if not 0 < len(message.request_id) <= MAX_CHARACTERS:
        raise malformed_field(f"{key}.request_id", "must be the identity that the answer named")
    if not _NAME.match(message.name):
        raise malformed_field(
            f"{key}.name", "a name begins with a letter and has at most 128 letters, digits, `_`, `.` and `-`"
        )
    kind: str | None = message.WhichOneof("value")
    if kind is None:
        raise malformed_field(f"{key}.label", "a `label` (true or false) or a `number` is needed")
    if kind == "number" and not math.isfinite(message.number):
        raise malformed_field(f"{key}.number", "must be finite")
    if kind == "number" and message.name == "wrong" and message.number not in (0, 1):
        raise malformed_field(f"{key}.number", "`wrong` is a truth value: 0 or 1")
    time = message.time.seconds + message.time.nanos / 1e9
    if message.HasField("time") and not 0 <= time <= latest:
        raise malformed_field(f"{key}.time", "must be between 1970 and tomorrow")
    return kind
