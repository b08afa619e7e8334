"""What the console refuses, as typed faults: for people a page, for programs JSON."""

from __future__ import annotations

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import CONSOLE_SIGN_IN


def signed_out() -> Fault:
    """No session, or one that is over."""
    message = "sign in first, or send an operator's key: `x-api-key: KEY`"
    return Fault(Code.UNAUTHENTICATED, Reason.REASON_CREDENTIAL_INVALID, message)


def bad_key() -> Fault:
    """Without a hint what is wrong with it."""
    return Fault(Code.UNAUTHENTICATED, Reason.REASON_CREDENTIAL_INVALID, "this key opens nothing here")


def no_operator() -> Fault:
    """A key of this installation that may not operate."""
    message = "this key may not operate; make one that may: headrace keys create ops --scope operate"
    return Fault(Code.PERMISSION_DENIED, Reason.REASON_NOT_ALLOWED, message, metadata={"scope": "operate"})


def too_many(wait_s: float) -> Fault:
    """As `bad_key`, of an address with too many of them."""
    message = f"this key opens nothing here; too many of them, so the next is judged in {wait_s:.0f} s"
    return CONSOLE_SIGN_IN.refusal(message, retry_after_s=wait_s)


def forged_form() -> Fault:
    """A form without our token: another site's, or one of an older session."""
    message = "this form is not of this session; open the page again and repeat what you did"
    return Fault(Code.PERMISSION_DENIED, Reason.REASON_NOT_ALLOWED, message, metadata={"field": "csrf"})


def malformed(field: str, message: str) -> Fault:
    """A part of the request makes no sense."""
    return Fault(
        Code.INVALID_ARGUMENT,
        Reason.REASON_MALFORMED_REQUEST,
        f"{field}: {message}",
        metadata={"field": field},
    )


def too_large(limit: int) -> Fault:
    """A form that no page of ours has."""
    message = f"the request's body is larger than {limit} bytes"
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_TOO_LARGE, message, metadata={"limit": str(limit)})


def _absent(reason: Reason, message: str, **metadata: str) -> Fault:
    return Fault(Code.NOT_FOUND, reason, message, metadata=metadata)


def no_page(path: str) -> Fault:
    """There is nothing at this address."""
    return _absent(Reason.REASON_METHOD_UNKNOWN, f"there is no page {path[:80]}")


def no_pipeline(name: str) -> Fault:
    """There is no release of it."""
    shown = name[:80]
    said = f"there is no pipeline {shown} with a release"
    return _absent(Reason.REASON_PIPELINE_UNKNOWN, said, pipeline=shown)


def no_model(model: str, version: str) -> Fault:
    """There is no such version."""
    model, version = model[:80], version[:80]
    said = f"there is no version {version} of model {model}"
    return _absent(Reason.REASON_MODEL_UNKNOWN, said, model=model, version=version)


def no_alert(fingerprint: str) -> Fault:
    """It does not fire any more."""
    said = "this alert does not fire any more; nothing was silenced. Look again"
    return _absent(Reason.REASON_METHOD_UNKNOWN, said, fingerprint=fingerprint[:64])


def no_alertmanager(message: str) -> Fault:
    """None is set here."""
    return Fault(Code.FAILED_PRECONDITION, Reason.REASON_NOT_ALLOWED, message)


def unrecorded(what: str = "that the audit is read can't be recorded now, so it is not shown") -> Fault:
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


def bug() -> Fault:
    """Our own mistake; the log has it in full."""
    message = "something went wrong here; the log of the monitoring service says what"
    return Fault(Code.INTERNAL, Reason.REASON_INTERNAL, message)
