"""What a call about releases is refused for, beside what the library of releases refuses."""

from __future__ import annotations

import re

from headrace.hop.errors import Code, Fault, Reason

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


def unreachable() -> Fault:
    """The store can't be reached. Where it is, and why, is in the log."""
    message = "the store of releases can't be reached; nothing was changed, as far as can be known; look, then try again"
    return Fault(Code.UNAVAILABLE, Reason.REASON_RELEASES_UNAVAILABLE, message)


def late(pipeline: str) -> Fault:
    """The time is over while a thread works on it."""
    message = "the time is over; a change may have been made nevertheless: look before trying again"
    return Fault(
        Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, message, metadata={"pipeline": pipeline}
    )


def no_store() -> Fault:
    """This door serves documents, not releases."""
    message = "this installation has no store of releases; set `control`"
    return Fault(Code.FAILED_PRECONDITION, Reason.REASON_RELEASES_UNAVAILABLE, message)


def malformed(field: str, message: str) -> Fault:
    """A field of the request makes no sense."""
    return Fault(
        Code.INVALID_ARGUMENT,
        Reason.REASON_MALFORMED_REQUEST,
        f"{field}: {message}",
        metadata={"field": field},
    )


def check_name(field: str, name: str) -> str:
    """A name may become part of a path, so only names are let through. Raises Fault."""
    if not _NAME.fullmatch(name):
        shown = name[:80]
        raise malformed(field, f"{shown!r} is no name; use letters, digits, '_', '.' and '-', a letter first")
    return name
