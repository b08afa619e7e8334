"""InferenceService.RecordOutcomes: what became known of predictions, reported by the tenant that they were made for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.request_ids import MAX_CHARACTERS, request_key
from services.ingress.admission.quotas import charge
from services.ingress.ports import Outcome, Outcomes
from services.ingress.request_context import RequestContext

MAX_OUTCOMES = 1000
# For callers without a deadline.
_TIMEOUT_S = 5.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z")
# Clocks of other machines go wrong by minutes, programs by whole units of time.
_AHEAD_S = 86_400.0


class OutcomesServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault.

    `outcomes` None: this installation stores none. `clock`: monotonic seconds; `wall`: seconds since 1970.
    """

    def __init__(
        self, outcomes: Outcomes | None, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._outcomes = outcomes
        self._clock = clock
        self._wall = wall

    async def RecordOutcomes(
        self, request: pb.RecordOutcomesRequest, context: RequestContext
    ) -> pb.RecordOutcomesResponse:
        credential = context.caller
        if self._outcomes is None:
            raise Fault(
                Code.FAILED_PRECONDITION, Reason.REASON_METHOD_UNKNOWN, "this installation stores no outcomes"
            )
        count = len(request.outcomes)
        if not count:
            raise _malformed("outcomes", "at least one is needed")
        if count > MAX_OUTCOMES:
            raise Fault(
                Code.RESOURCE_EXHAUSTED,
                Reason.REASON_TOO_LARGE,
                f"{count} outcomes in one call; at most {MAX_OUTCOMES}",
                metadata={"outcomes": str(count), "limit": str(MAX_OUTCOMES)},
            )
        # The call has been charged already; its outcomes cost no rows, but their bytes count.
        charge(0, context, request)
        latest = self._wall() + _AHEAD_S
        outcomes = [_read(message, f"outcomes[{i}]", latest) for i, message in enumerate(request.outcomes)]
        deadline = self._clock() + _TIMEOUT_S if context.deadline == math.inf else context.deadline
        stored = await self._outcomes.record(credential.tenant.name, outcomes, deadline)
        return pb.RecordOutcomesResponse(accepted_count=stored)


def _read(message: pb.Outcome, key: str, latest: float) -> Outcome:
    if not 0 < len(message.request_id) <= MAX_CHARACTERS:
        raise _malformed(f"{key}.request_id", "must be the identity that the answer named")
    if not _NAME.match(message.name):
        raise _malformed(
            f"{key}.name", "a name begins with a letter and has at most 128 letters, digits, `_`, `.` and `-`"
        )
    kind = message.WhichOneof("value")
    if kind is None:
        raise _malformed(f"{key}.label", "a `label` (true or false) or a `number` is needed")
    if kind == "number" and not math.isfinite(message.number):
        raise _malformed(f"{key}.number", "must be finite")
    value: bool | float = message.label if kind == "label" else message.number
    return Outcome(
        request_key(message.request_id), message.row, message.name, value, _time(message, key, latest)
    )


def _time(message: pb.Outcome, key: str, latest: float) -> float | None:
    if not message.HasField("time"):
        return None
    seconds = message.time.seconds + message.time.nanos / 1e9
    if not 0 <= seconds <= latest:
        raise _malformed(f"{key}.time", "must be between 1970 and tomorrow")
    return seconds


def _malformed(field: str, what: str) -> Fault:
    return Fault(
        Code.INVALID_ARGUMENT,
        Reason.REASON_MALFORMED_REQUEST,
        f"{field}: {what}",
        metadata={"field": field},
    )
