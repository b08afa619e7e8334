"""The faults that control raises by itself. What records refuse is in `headrace.catalog.faults`."""

from __future__ import annotations

from headrace.hop.errors import Code, Fault, Reason


def not_allowed(what: str) -> Fault:
    """The peer is known, and may not do this. `what`: goes on "may not …"."""
    return Fault(
        Code.PERMISSION_DENIED,
        Reason.REASON_NOT_ALLOWED,
        f"no name in the caller's certificate may {what}; the operator can add one",
        metadata={"what": what},
    )


def malformed(field: str, wanted: str) -> Fault:
    """A message that no part of this installation sends."""
    return Fault(
        Code.INVALID_ARGUMENT,
        Reason.REASON_MALFORMED_REQUEST,
        f"{field}: must be {wanted}",
        metadata={"field": field, "wanted": wanted},
    )


def too_large(field: str, size: int, limit: int) -> Fault:
    """More than one call may bring."""
    return Fault(
        Code.RESOURCE_EXHAUSTED,
        Reason.REASON_TOO_LARGE,
        f"{field}: {size} is too much; at most {limit}",
        metadata={"field": field, "size": str(size), "limit": str(limit)},
    )
