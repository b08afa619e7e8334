"""Faults that hop's client itself raises; each is a function of the callee's name."""

from __future__ import annotations

from collections.abc import Callable

from headrace.api.errors.v1 import errors_pb2
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import BREAKER, Limiter


def _fault(code: Code, reason: errors_pb2.Reason, text: str) -> Callable[[str], Fault]:
    return lambda callee: Fault(code, reason, text.format(callee), metadata={"callee": callee})


deadline_passed = _fault(
    Code.DEADLINE_EXCEEDED,
    Reason.REASON_DEADLINE_PASSED,
    "no answer from {} within the time allowed; allow more time or retry later",
)
unreachable = _fault(
    Code.UNAVAILABLE,
    Reason.REASON_UNREACHABLE,
    "{} cannot be reached; check that it runs, then retry",
)
malformed = _fault(
    Code.INTERNAL,
    Reason.REASON_INTERNAL,
    "{} sent a reply that cannot be read; both sides must run the same version",
)
closed = _fault(
    Code.UNAVAILABLE,
    Reason.REASON_DRAINING,
    "the client of {} is closed because this process is shutting down; retry elsewhere",
)
unexpected = _fault(
    Code.INTERNAL,
    Reason.REASON_INTERNAL,
    "a call to {} could not be made because of a bug; see this service's log",
)
cancelled = _fault(Code.CANCELLED, Reason.REASON_CANCELLED, "nobody waits for the answer of {} any more")


def breaker_open(callee: str) -> Fault:
    return BREAKER.refusal(
        f"{callee} failed too often just now and is given a rest; retry in a few seconds", callee=callee
    )


def overloaded(callee: str, limiter: Limiter) -> Fault:
    return limiter.refusal(
        f"{callee} has more calls than it can take; retry later or send less", callee=callee
    )
