"""Faults that hop's client itself raises."""

from __future__ import annotations

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import BREAKER, Limiter


def deadline_passed(callee: str) -> Fault:
    return Fault(
        Code.DEADLINE_EXCEEDED,
        Reason.REASON_DEADLINE_PASSED,
        f"no answer from {callee} within the time allowed; allow more time or retry later",
        metadata={"callee": callee},
    )


def breaker_open(callee: str) -> Fault:
    return BREAKER.refusal(
        f"{callee} failed too often just now and is given a rest; retry in a few seconds", callee=callee
    )


def unreachable(callee: str) -> Fault:
    return Fault(
        Code.UNAVAILABLE,
        Reason.REASON_UNREACHABLE,
        f"{callee} cannot be reached; check that it runs, then retry",
        metadata={"callee": callee},
    )


def overloaded(callee: str, limiter: Limiter) -> Fault:
    return limiter.refusal(
        f"{callee} has more calls than it can take; retry later or send less", callee=callee
    )


def malformed(callee: str) -> Fault:
    return Fault(
        Code.INTERNAL,
        Reason.REASON_INTERNAL,
        f"{callee} sent a reply that cannot be read; both sides must run the same version",
        metadata={"callee": callee},
    )


def closed(callee: str) -> Fault:
    return Fault(
        Code.UNAVAILABLE,
        Reason.REASON_DRAINING,
        f"the client of {callee} is closed because this process is shutting down; retry elsewhere",
        metadata={"callee": callee},
    )


def unexpected(callee: str) -> Fault:
    return Fault(
        Code.INTERNAL,
        Reason.REASON_INTERNAL,
        f"a call to {callee} could not be made because of a bug; see this service's log",
        metadata={"callee": callee},
    )


def cancelled(callee: str) -> Fault:
    return Fault(
        Code.CANCELLED,
        Reason.REASON_CANCELLED,
        f"nobody waits for the answer of {callee} any more",
        metadata={"callee": callee},
    )
