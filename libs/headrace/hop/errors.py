"""Errors that cross hops: a canonical code, a typed reason, a sentence and its dynamic parts.

This module knows no grpc, so domain code may raise `Fault` and stay free of transport.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from headrace.api.errors.v1 import errors_pb2

Reason = errors_pb2.Reason
DOMAIN = "headrace"
_NONE: Mapping[str, str] = MappingProxyType({})


class Code(enum.IntEnum):
    """Canonical status codes, numbered as in google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# The callee could not answer. Other codes are the caller's fault.
_CALLEE_FAULTS = frozenset(
    {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}
)
# One step, one model (it failed, or is still being loaded), the journal of one kind of predictions or the database of control failed.
# Other calls of the same callee are well, and another replica would fail these ones too. A model that no engine can run now is
# UNAVAILABLE, and another replica may have an engine.
_OF_WHAT_IS_ASKED = frozenset(
    {
        (Code.INTERNAL, Reason.REASON_STEP_FAILED),
        (Code.INTERNAL, Reason.REASON_MODEL_FAILED),
        (Code.UNAVAILABLE, Reason.REASON_JOURNAL_UNAVAILABLE),
        (Code.UNAVAILABLE, Reason.REASON_MODEL_LOADING),
        (Code.UNAVAILABLE, Reason.REASON_RECORDS_UNAVAILABLE),
    }
)


def counts_against_callee(code: Code, reason: errors_pb2.Reason) -> bool:
    """Whether a breaker counts this failure: the callee could not answer this call, and is likely to fail others too."""
    return code in _CALLEE_FAULTS and (code, reason) not in _OF_WHAT_IS_ASKED


class Blame(enum.Enum):
    """Whose fault a failure is, as the availability of the installation counts it."""

    OURS = "ours"
    CALLER = "caller"
    # The side that set the timeout that passed: the caller, or we for the pipeline.
    WHO_SET_THE_TIME = "who set the time"
    # Ours if a prediction needed it; the caller's if the caller named it, as operators do.
    OURS_IN_PREDICTIONS = "ours in predictions"


# For every reason. A test fails if one is missing, so the blame of a new reason is decided when it is added.
BLAME: Mapping[errors_pb2.Reason, Blame] = MappingProxyType(
    {
        Reason.REASON_UNSPECIFIED: Blame.OURS,
        Reason.REASON_MALFORMED_REQUEST: Blame.CALLER,
        Reason.REASON_INPUT_UNKNOWN: Blame.CALLER,
        Reason.REASON_INPUT_MISSING: Blame.CALLER,
        Reason.REASON_INPUT_DTYPE: Blame.CALLER,
        Reason.REASON_INPUT_SHAPE: Blame.CALLER,
        Reason.REASON_INPUT_RANGE: Blame.CALLER,
        Reason.REASON_TOO_LARGE: Blame.CALLER,
        Reason.REASON_PIPELINE_UNKNOWN: Blame.CALLER,
        Reason.REASON_VERSION_UNKNOWN: Blame.CALLER,
        # Callers name pipelines; only operators name models.
        Reason.REASON_MODEL_UNKNOWN: Blame.OURS_IN_PREDICTIONS,
        Reason.REASON_CREDENTIAL_INVALID: Blame.CALLER,
        Reason.REASON_NOT_ALLOWED: Blame.CALLER,
        Reason.REASON_QUOTA_EXCEEDED: Blame.CALLER,
        Reason.REASON_DEADLINE_PASSED: Blame.WHO_SET_THE_TIME,
        Reason.REASON_OVERLOADED: Blame.OURS,
        Reason.REASON_BREAKER_OPEN: Blame.OURS,
        Reason.REASON_UNREACHABLE: Blame.OURS,
        Reason.REASON_RETRY_BUDGET_EMPTY: Blame.OURS,
        Reason.REASON_FEATURE_UNAVAILABLE: Blame.OURS,
        Reason.REASON_SPEC_UNKNOWN: Blame.OURS,
        Reason.REASON_STEP_FAILED: Blame.OURS,
        Reason.REASON_MODEL_FAILED: Blame.OURS,
        Reason.REASON_DRAINING: Blame.OURS,
        Reason.REASON_INTERNAL: Blame.OURS,
        Reason.REASON_PEER_UNTRUSTED: Blame.OURS,
        Reason.REASON_METHOD_UNKNOWN: Blame.CALLER,
        Reason.REASON_CANCELLED: Blame.CALLER,
        Reason.REASON_MODEL_UNTRUSTED: Blame.OURS_IN_PREDICTIONS,
        Reason.REASON_MODEL_UNUSABLE: Blame.OURS_IN_PREDICTIONS,
        Reason.REASON_QUERY_BUDGET_EXCEEDED: Blame.CALLER,
        Reason.REASON_PIPELINE_QUARANTINED: Blame.OURS,
        Reason.REASON_MODEL_RELEASED: Blame.CALLER,
        Reason.REASON_MODEL_LOADING: Blame.OURS,
        Reason.REASON_MEMBER_FAILED: Blame.OURS,
        Reason.REASON_QUORUM_MISSED: Blame.OURS,
        Reason.REASON_STORAGE_UNAVAILABLE: Blame.OURS,
        Reason.REASON_ERASURE_NAMES_NOBODY: Blame.CALLER,
        Reason.REASON_JOURNAL_UNAVAILABLE: Blame.OURS,
        Reason.REASON_ENCRYPTION_REQUIRED: Blame.OURS,
        Reason.REASON_RELEASE_INVALID: Blame.CALLER,
        Reason.REASON_RELEASE_STALE: Blame.CALLER,
        Reason.REASON_RELEASE_FROZEN: Blame.CALLER,
        Reason.REASON_RELEASES_UNAVAILABLE: Blame.OURS,
        Reason.REASON_IDEMPOTENCY_KEY_REUSED: Blame.CALLER,
        Reason.REASON_IDEMPOTENCY_KEY_IN_USE: Blame.CALLER,
        Reason.REASON_IDEMPOTENCY_UNAVAILABLE: Blame.OURS,
        Reason.REASON_IDEMPOTENCY_KEYS_FULL: Blame.CALLER,
        Reason.REASON_NOT_EXPLAINABLE: Blame.CALLER,
        Reason.REASON_PREDICTION_UNKNOWN: Blame.CALLER,
        Reason.REASON_RECORD_CHANGED: Blame.CALLER,
        Reason.REASON_LEASE_LOST: Blame.CALLER,
        Reason.REASON_RECORD_INVALID: Blame.CALLER,
        Reason.REASON_RECORDS_UNAVAILABLE: Blame.OURS,
        Reason.REASON_RECORDS_DIVERGED: Blame.OURS,
    }
)
# Codes that mean a failure of ours, whatever the reason.
OUR_CODES = frozenset({Code.UNKNOWN, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS})


class Fault(Exception):  # noqa: N818 - an error that is an answer: it names whose fault it is
    """An expected failure, fit to be shown to the caller.

    `message` holds no secret, no path and no stack trace; everything dynamic in it is in `metadata` too.
    `retry_after_s` is the hint sent as `grpc-retry-pushback-ms` / `retry-after`.
    """

    def __init__(
        self,
        code: Code,
        reason: errors_pb2.Reason,
        message: str,
        *,
        metadata: Mapping[str, str] = _NONE,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = metadata
        self.retry_after_s = retry_after_s

    def copy(self) -> Fault:
        """A copy for another waiting caller: one shared exception would collect the tracebacks of all of them."""
        return Fault(
            self.code, self.reason, self.message, metadata=self.metadata, retry_after_s=self.retry_after_s
        )

    def __repr__(self) -> str:
        return f"Fault({self.code.name}, {reason_name(self.reason)}, {self.message!r})"


def reason_name(reason: errors_pb2.Reason) -> str:
    """Name of a reason as written in an ErrorInfo: `QUOTA_EXCEEDED` for REASON_QUOTA_EXCEEDED.

    UNSPECIFIED for a number that this version does not know: a row's error comes as it is from a service that may be newer.
    """
    try:
        return Reason.Name(reason).removeprefix("REASON_")
    except ValueError:
        return reason_name(Reason.REASON_UNSPECIFIED)


def blame(reason: errors_pb2.Reason) -> Blame:
    """Whose fault a reason is; OURS for a number that this version does not know."""
    return BLAME.get(reason, Blame.OURS)


def reason_of(name: str) -> errors_pb2.Reason:
    """Inverse of `reason_name`; REASON_UNSPECIFIED for a name this version does not know."""
    try:
        return cast("errors_pb2.Reason", Reason.Value(f"REASON_{name}"))
    except ValueError:
        return errors_pb2.REASON_UNSPECIFIED
