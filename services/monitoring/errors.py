"""The faults that the monitoring service raises."""

from __future__ import annotations

from headrace.hop.errors import Code, Fault, Reason

# A full disk is seldom emptied sooner.
_RETRY_AFTER_S = 5.0


def storage_unavailable(why: str) -> Fault:
    """Outcomes can't be written now. `why`: without paths."""
    return Fault(
        Code.UNAVAILABLE,
        Reason.REASON_STORAGE_UNAVAILABLE,
        f"the outcomes can't be stored now ({why}); none of them was; send them again later",
        metadata={"why": why},
        retry_after_s=_RETRY_AFTER_S,
    )


def unread(why: str) -> Fault:
    """Outcomes or releases can't be read now."""
    return Fault(
        Code.UNAVAILABLE,
        Reason.REASON_STORAGE_UNAVAILABLE,
        f"outcomes or releases can't be read now ({why}); ask again later",
        metadata={"why": why},
        retry_after_s=_RETRY_AFTER_S,
    )


def untrusted() -> Fault:
    """Tenants are believed only of the installation's own processes."""
    return Fault(
        Code.PERMISSION_DENIED,
        Reason.REASON_PEER_UNTRUSTED,
        "only an authenticated part of this installation may report ticks and outcomes",
    )


def unreadable(what: str) -> Fault:
    """A message that no part of this installation sends."""
    return Fault(
        Code.INVALID_ARGUMENT,
        Reason.REASON_MALFORMED_REQUEST,
        f"can't be read: {what}",
        metadata={"field": what},
    )


def too_many(count: int, limit: int) -> Fault:
    """More outcomes in one call than are stored at once."""
    return Fault(
        Code.RESOURCE_EXHAUSTED,
        Reason.REASON_TOO_LARGE,
        f"{count} outcomes in one call; at most {limit}",
        metadata={"outcomes": str(count), "limit": str(limit)},
    )
