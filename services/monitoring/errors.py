"""The faults that the monitoring service raises."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason

# A full disk is seldom emptied sooner.
_RETRY_AFTER_S = 5.0


def _unavailable(what: str, why: str, then: str) -> Fault:
    """`why`: without paths."""
    return Fault(
        Code.UNAVAILABLE,
        Reason.REASON_STORAGE_UNAVAILABLE,
        f"{what} now ({why}); {then} later",
        metadata={"why": why},
        retry_after_s=_RETRY_AFTER_S,
    )


def storage_unavailable(why: str) -> Fault:
    """Outcomes can't be written now. `why`: without paths."""
    return _unavailable("the outcomes can't be stored", why, "none of them was; send them again")


def unread(why: str) -> Fault:
    """Outcomes or releases can't be read now."""
    return _unavailable("outcomes or releases can't be read", why, "ask again")


def events_unavailable(why: str) -> Fault:
    """Events can't be written or read now. `why`: without paths."""
    return _unavailable("the events can't be stored or read", why, "try again")


def explanations_unavailable(why: str) -> Fault:
    """Explanations can't be written or read now. `why`: without paths."""
    what = "explanations, or the events that they belong to, can't be stored or read"
    return _unavailable(what, why, "try again")


def check_trusted(call: Call) -> None:
    """Raises Fault: tenants are believed only of the installation's own processes."""
    if not call.peer.trusted:
        raise Fault(
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


def subject_masked(column: str) -> Fault:
    """An input by which nobody can be found here."""
    return Fault(
        Code.FAILED_PRECONDITION,
        Reason.REASON_ERASURE_NAMES_NOBODY,
        f"hashes stand in the place of the input {column}, and their salt is not known here; nothing was erased;"
        " set `events.salt` of the monitoring service to the routers' file",
        metadata={"field": "subjects", "column": column},
    )


def erasure_names_nobody(field: str) -> Fault:
    """An erasure says not whose events should go."""
    return Fault(
        Code.INVALID_ARGUMENT,
        Reason.REASON_ERASURE_NAMES_NOBODY,
        f"the erasure names nobody: {field} is empty; nothing was erased",
        metadata={"field": field},
    )


def explanation_unknown(identity: str) -> Fault:
    """No explanation of this prediction is kept."""
    return Fault(
        Code.NOT_FOUND,
        Reason.REASON_PREDICTION_UNKNOWN,
        f"no explanation of the prediction {identity} is kept: its pipeline does not demand them, or it is too old",
        metadata={"prediction_id": identity},
    )


def no_predictions(pipeline: str) -> Fault:
    """No event of this pipeline is kept."""
    shown = pipeline[:80]
    return Fault(
        Code.NOT_FOUND,
        Reason.REASON_PREDICTION_UNKNOWN,
        f"no predictions of the pipeline {shown!r} are kept",
        metadata={"pipeline": shown},
    )


def no_groups(column: str, cause: str, known: Sequence[str]) -> Fault:
    """A column that makes no groups, or an output that can't be averaged."""
    shown, names = column[:80], ", ".join(known)
    words = {
        "masked": f"{shown!r} is personal data, of which only hashes are kept; name one of: {names}",
        "unknown": f"{shown!r} is no input or feature column of the pipeline; it has: {names}",
        "values": f"{shown!r} has several values a row; name one of: {names}",
        "output": f"the output is no number or truth value; name one of: {names}",
    }
    return Fault(
        Code.INVALID_ARGUMENT,
        Reason.REASON_NOT_EXPLAINABLE,
        words[cause],
        metadata={"cause": cause, "column": shown, "known": names},
    )
