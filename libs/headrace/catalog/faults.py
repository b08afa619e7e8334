"""What records refuse, as control answers it and as its callers read it."""

from __future__ import annotations

from headrace.catalog.errors import (
    LeaseLostError,
    RecordChangedError,
    RecordInvalidError,
    RecordsDivergedError,
    RecordsError,
    RecordsUnavailableError,
    Unavailable,
)
from headrace.hop.errors import Code, Fault, Reason

# A database that failed is seldom back sooner. Callers may ask another process of control at once.
_RETRY_AFTER_S = 0.2
# Headers that carry errors are bounded.
_MAX_NAME, _MAX_TEXT = 300, 1500


def fault_of(error: RecordsError) -> Fault:
    """The fault of a refusal; its metadata hold all parts of the error."""
    text = str(error)[:_MAX_TEXT]
    match error:
        case RecordChangedError():
            about = _named(error.kind, error.name) | {"version": str(error.version)}
            return Fault(Code.ABORTED, Reason.REASON_RECORD_CHANGED, text, metadata=about)
        case LeaseLostError():
            about = {"lease": error.name[:_MAX_NAME]}
            return Fault(Code.FAILED_PRECONDITION, Reason.REASON_LEASE_LOST, text, metadata=about)
        case RecordInvalidError():
            about = _named(error.kind, error.name) | {"problem": error.problem[:_MAX_TEXT]}
            return Fault(Code.INVALID_ARGUMENT, Reason.REASON_RECORD_INVALID, text, metadata=about)
        case RecordsDivergedError():
            return Fault(
                Code.FAILED_PRECONDITION,
                Reason.REASON_RECORDS_DIVERGED,
                text,
                metadata={"problem": text},
            )
        case _:
            why = error.why if isinstance(error, RecordsUnavailableError) else Unavailable.UNREACHABLE
            return Fault(
                Code.UNAVAILABLE,
                Reason.REASON_RECORDS_UNAVAILABLE,
                text,
                metadata={"why": why.value, "problem": text},
                retry_after_s=_RETRY_AFTER_S,
            )


def error_of(fault: Fault) -> RecordsError:
    """Inverse of `fault_of`. Any other fault means that control can't be used now: RecordsUnavailableError."""
    about = fault.metadata
    kind, name = about.get("kind", ""), about.get("name", "")
    match fault.reason:
        case Reason.REASON_RECORD_CHANGED:
            version = about.get("version", "")
            return RecordChangedError(kind, name, int(version) if version.isdecimal() else 0)
        case Reason.REASON_LEASE_LOST:
            return LeaseLostError(about.get("lease", ""))
        case Reason.REASON_RECORD_INVALID:
            return RecordInvalidError(kind, name, about.get("problem", fault.message))
        case Reason.REASON_RECORDS_DIVERGED:
            return RecordsDivergedError(fault.message)
        case Reason.REASON_RECORDS_UNAVAILABLE if about.get("why") in {*Unavailable}:
            return RecordsUnavailableError(Unavailable(about["why"]), fault.message)
        case Reason.REASON_BREAKER_OPEN | Reason.REASON_UNREACHABLE:
            text = "control can't be reached; check that it runs, then try again"
            return RecordsUnavailableError(Unavailable.UNREACHABLE, text)
        case _:
            return RecordsUnavailableError(Unavailable.UNREACHABLE, f"control: {fault.message}")


def _named(kind: str, name: str) -> dict[str, str]:
    return {"kind": kind[:_MAX_NAME], "name": name[:_MAX_NAME]}
