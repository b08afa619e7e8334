"""The Faults that stand in several places, and their HTTP status."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.hop.errors import Code, Fault, Reason

# The HTTP status of each canonical code, in Connect and in REST.
STATUS: Mapping[Code, int] = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def invalid(reason: Reason, message: str, **metadata: str) -> Fault:
    """The Fault for a request that makes no sense, for this reason."""
    return Fault(Code.INVALID_ARGUMENT, reason, message, metadata=metadata)


def malformed(message: str, field: str = "body") -> Fault:
    """The Fault for a request that violates the protocol; `field`: where."""
    shown = field.encode(errors="replace").decode()[:80]
    return invalid(Reason.REASON_MALFORMED_REQUEST, message, field=shown)


def malformed_field(field: str, what: str) -> Fault:
    """The Fault for a field of a request that makes no sense."""
    return malformed(f"{field}: {what}", field)


def too_large(size: int, limit: int) -> Fault:
    """The Fault for a message over the limit."""
    return _over(f"the message has {size} bytes or more; at most {limit} are taken", limit)


def too_many_values(limit: int) -> Fault:
    """The Fault for a message with too many values."""
    said = f"the message holds more than {limit} values; send fewer rows, or whole tensors as raw bytes"
    return _over(said, limit, unit="values")


def headers_too_large(size: int, limit: int) -> Fault:
    """The Fault for a request whose headers are over the limit."""
    said = f"the headers have {size} bytes or entries; at most {limit} are taken"
    return _over(said, limit, unit="headers")


def _over(message: str, limit: int, **unit: str) -> Fault:
    metadata = {"limit": str(limit), **unit}
    return Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_TOO_LARGE, message, metadata=metadata)


def http_status(fault: Fault) -> int:
    """The HTTP status for a fault, in protocols in which the status says what was too large."""
    if fault.reason == Reason.REASON_TOO_LARGE and fault.metadata.get("unit") == "headers":
        return 431
    return STATUS[fault.code]
