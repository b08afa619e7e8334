"""The faults that the router itself raises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headrace.columns import RowError
from headrace.explanations import ExplanationError
from headrace.hop.errors import Code, Fault, Reason, reason_name
from headrace.pipeline import duration_text


def _fault(code: Code, reason: Reason, message: str, **metadata: str) -> Fault:
    return Fault(code, reason, message, metadata=metadata)


def pipeline_unknown(name: str, known: Iterable[str]) -> Fault:
    """No such pipeline here."""
    names = ", ".join(sorted(known))
    message = f"this router serves no pipeline {name[:80]!r}; it serves: {names}"
    return _fault(Code.NOT_FOUND, Reason.REASON_PIPELINE_UNKNOWN, message, pipeline=name[:80], known=names)


def pipeline_quarantined(name: str) -> Fault:
    """The pipeline has a document, but it is broken and no good revision of it is known."""
    message = (
        f"pipeline {name} can't be used until its document is mended; `headrace status` says what is wrong"
    )
    return _fault(Code.FAILED_PRECONDITION, Reason.REASON_PIPELINE_QUARANTINED, message, pipeline=name)


def version_unknown(name: str, version: int, known: Iterable[int]) -> Fault:
    """The pipeline is served, but not in this version."""
    versions = ", ".join(map(str, sorted(known)))
    message = f"pipeline {name} has no version {version} here; it has {versions}"
    named = {"pipeline": name, "version": str(version), "known": versions}
    return _fault(Code.NOT_FOUND, Reason.REASON_VERSION_UNKNOWN, message, **named)


def operators_only() -> Fault:
    """Only the installation's own processes may load and unload: the ingress has checked that the caller is an operator."""
    return Fault(
        Code.PERMISSION_DENIED,
        Reason.REASON_PEER_UNTRUSTED,
        "only an authenticated part of this installation may change which models are loaded",
    )


def not_explainable(pipeline: str, error: ExplanationError) -> Fault:
    """Predictions of the pipeline can't be explained as asked."""
    column = {"column": error.column} if error.column else {}
    named = {"pipeline": pipeline, "cause": error.cause, **column}
    return _fault(Code.FAILED_PRECONDITION, Reason.REASON_NOT_EXPLAINABLE, str(error), **named)


def unreadable_row(row: int, column: str, why: str) -> Fault:
    """A row as JSON that does not fit the pipeline."""
    where = f"row {row}, column {column[:80]!r}" if column else f"row {row}"
    named = {"row": str(row), "column": column[:80], "why": why}
    return _fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_UNKNOWN, f"{where}: {why}", **named)


def too_many_to_explain(count: int, limit: int) -> Fault:
    """More rows than are explained in one call."""
    message = f"{count} rows are to be explained at once; from 1 to {limit} can be"
    return _fault(Code.INVALID_ARGUMENT, Reason.REASON_TOO_LARGE, message, rows=str(count), limit=str(limit))


def no_executor() -> Fault:
    """The router's settings name no executor."""
    return Fault(
        Code.FAILED_PRECONDITION,
        Reason.REASON_MODEL_UNKNOWN,
        "this router has no executor; name one in its settings (`executor`)",
    )


def not_everywhere(fault: Fault, done: int, replicas: int) -> Fault:
    """Some replicas of the executor succeeded, another failed."""
    message = f"{done} of {replicas} executors did it, another did not: {fault.message}"
    metadata = {**fault.metadata, "done": str(done), "replicas": str(replicas)}
    return Fault(fault.code, fault.reason, message, metadata=metadata, retry_after_s=fault.retry_after_s)


def input_missing(pipeline: str, name: str) -> Fault:
    """The batch lacks a column. The ingress adds the inputs that a request leaves out, so this is a mistake of its caller."""
    message = (
        f"the batch has no column {name!r}, which pipeline {pipeline} needs in its declared type and shape"
    )
    return _fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, message, pipeline=pipeline, input=name)


def unusable_reply(stage: str, what: str) -> Fault:
    """A service sent a reply that does not fit the stage."""
    message = f"the answer of stage {stage} can't be used: {what}"
    return _fault(Code.INTERNAL, Reason.REASON_INTERNAL, message, stage=stage)


def member_failed(stage: str, member: str, cause: RowError) -> Fault:
    """An ensemble can't do without this member, which failed the row."""
    message = f"member {member} of the ensemble {stage} is required, and it failed: {cause.message}"
    metadata = {**cause.metadata, "member": member, "cause": reason_name(cause.reason)}
    # To the caller NOT_FOUND would say that there is no such pipeline, and that trying again is of no use.
    code = Code.UNAVAILABLE if cause.code is Code.NOT_FOUND else cause.code
    return Fault(code, Reason.REASON_MEMBER_FAILED, message, metadata=metadata)


def quorum_missed(stage: str, quorum: int, answered: int, causes: Mapping[str, RowError]) -> Fault:
    """Too few members of an ensemble answered the row. `causes`: why each of the others did not."""
    missing = ", ".join(f"{member} ({reason_name(cause.reason)})" for member, cause in causes.items())
    message = (
        f"{answered} members of the ensemble {stage} answered, and its quorum is {quorum}; missing: {missing}"
    )
    named = {"quorum": str(quorum), "answered": str(answered), "missing": ",".join(causes)}
    return _fault(Code.UNAVAILABLE, Reason.REASON_QUORUM_MISSED, message, **named)


def feature_unavailable(view: str, source: str, age_us: int, limit_us: int) -> Fault:
    """The pipeline demands a feature view that has no values for a row that it may use.

    `age_us`: of the values that there are; −1 if there are none. `limit_us`: the greatest age that the pipeline takes; 0: the
    view's time to live.
    """
    metadata = {"view": view, "source": source}
    message = (
        f"the pipeline demands the feature view {view}, which has no present values for this row ({source})"
    )
    if age_us >= 0:
        metadata["age_ms"] = str(age_us // 1000)
        message += f": they are {duration_text(age_us)} old"
    if limit_us:
        metadata["max_age_ms"] = str(limit_us // 1000)
        message += f"; the pipeline takes up to {duration_text(limit_us)}"
    return Fault(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, message, metadata=metadata)


def journal_unavailable(stage: str, why: str) -> RowError:
    """The event of a regulated prediction can't be recorded, so there is no answer."""
    message = (
        f"this prediction is regulated, and its event can't be recorded ({why}), so it is not answered;"
        " try again later"
    )
    return RowError(
        Code.UNAVAILABLE,
        Reason.REASON_JOURNAL_UNAVAILABLE,
        message,
        stage,
        {"why": why, "retry_after_ms": "1000"},
    )
