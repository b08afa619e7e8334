"""What the console refuses, as typed faults: for people a page, for programs JSON."""

from __future__ import annotations

from headrace.hop.errors import Code, Fault, Reason


def signed_out() -> Fault:
    """No session, or one that is over."""
    message = "sign in first, or send an operator's key: `x-api-key: KEY`"
    return Fault(Code.UNAUTHENTICATED, Reason.REASON_CREDENTIAL_INVALID, message)


def forbidden(message: str, **metadata: str) -> Fault:
    """Whoever asks may not."""
    return Fault(Code.PERMISSION_DENIED, Reason.REASON_NOT_ALLOWED, message, metadata=metadata)


def malformed(field: str, message: str) -> Fault:
    """A part of the request makes no sense."""
    text = f"{field}: {message}"
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, text, metadata={"field": field})


def absent(message: str, reason: Reason = Reason.REASON_METHOD_UNKNOWN, **metadata: str) -> Fault:
    """There is no such page, pipeline, model or alert."""
    return Fault(Code.NOT_FOUND, reason, message, metadata=metadata)


def no_page(path: str) -> Fault:
    """There is nothing at this address."""
    return absent(f"there is no page {path[:80]}")


def no_pipeline(name: str) -> Fault:
    """There is no release of it."""
    name = name[:80]
    return absent(
        f"there is no pipeline {name} with a release", Reason.REASON_PIPELINE_UNKNOWN, pipeline=name
    )


def unrecorded(what: str) -> Fault:
    """What can't be recorded is not done."""
    message = f"{what}; mend disk or rights of HOME/audit"
    return Fault(Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE, message)


def nothing_to_change(number: int) -> str:
    """As the command line says it."""
    return f"nothing to change (release {number})"


def unchanged(pipeline: str, number: int) -> Fault:
    """A change that changes nothing; no release was made."""
    named = {"pipeline": pipeline[:128], "number": str(number)}
    return Fault(
        Code.FAILED_PRECONDITION, Reason.REASON_RELEASE_INVALID, nothing_to_change(number), metadata=named
    )


def unreachable(what: str) -> Fault:
    """A store or disk that does not answer; the log says where and why."""
    message = f"{what} can't be reached; what serves goes on. Mend it and try again"
    return Fault(Code.UNAVAILABLE, Reason.REASON_RELEASES_UNAVAILABLE, message, metadata={"what": what})
