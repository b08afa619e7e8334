"""The errors that the executor answers with: a Fault for a call, a RowError for a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from headrace.columns import RowError
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import MODEL_QUEUE
from headrace.repository import (
    AbsentError,
    BadNameError,
    Metadata,
    RepositoryError,
    TensorSpec,
    UntrustedError,
)

STAGE = "executor"
_REFUSALS: Mapping[type[RepositoryError], tuple[Code, Reason]] = {
    BadNameError: (Code.INVALID_ARGUMENT, Reason.REASON_MODEL_UNKNOWN),
    AbsentError: (Code.NOT_FOUND, Reason.REASON_MODEL_UNKNOWN),
    UntrustedError: (Code.FAILED_PRECONDITION, Reason.REASON_MODEL_UNTRUSTED),
}
# When a caller may try again whose model is still being loaded: after a crash that takes a second.
_LOADING_S = 0.25
# The folders of an absolute path or a URL, up to the last name.
_FOLDERS = re.compile(r"(?:\b[a-z][a-z0-9+.-]*:/|(?<![\w.…]))/(?:[^\s/'\";]+/)+")


def _fault(code: Code, reason: Reason, message: str, **metadata: str) -> Fault:
    return Fault(code, reason, message, metadata=metadata)


def _row_error(code: Code, reason: Reason, message: str, **metadata: str) -> RowError:
    return RowError(code, reason, message, STAGE, metadata)


def model_unknown(model: str, loaded: Iterable[str]) -> Fault:
    names = ", ".join(sorted(loaded)) or "none"
    message = f"model {model!r} is not loaded; loaded are: {names}"
    return _fault(Code.NOT_FOUND, Reason.REASON_MODEL_UNKNOWN, message, model=model, loaded=names)


def version_unknown(model: str, version: str, loaded: Iterable[str]) -> Fault:
    versions = ", ".join(loaded)
    message = f"model {model!r} is not loaded in version {version!r}; loaded are: {versions}"
    return _fault(
        Code.NOT_FOUND, Reason.REASON_MODEL_UNKNOWN, message, model=model, version=version, loaded=versions
    )


def quarantined(model: str, version: str, *, trusted: bool) -> Fault:
    """The version should serve and can't. The reason is for operators only: in the log, and in `headrace status`."""
    reason = Reason.REASON_MODEL_UNUSABLE if trusted else Reason.REASON_MODEL_UNTRUSTED
    why = "is in quarantine: it can't be used until its operator mends it"
    return _version_fault(Code.FAILED_PRECONDITION, reason, model, version, why)


def loading(model: str, version: str) -> Fault:
    message = f"model {model!r} version {version!r} is still being loaded; retry in a moment"
    more = {"model": model, "version": version}
    return Fault(
        Code.UNAVAILABLE, Reason.REASON_MODEL_LOADING, message, metadata=more, retry_after_s=_LOADING_S
    )


def input_missing(name: str) -> Fault:
    return _input_fault(Reason.REASON_INPUT_MISSING, name, "is missing; send a column of that name")


def input_unknown(name: str, known: Iterable[str]) -> Fault:
    return _input_fault(Reason.REASON_INPUT_UNKNOWN, name, f"is none of the model's: {', '.join(known)}")


def input_dtype(spec: TensorSpec, found: str) -> Fault:
    wanted = spec.dtype.name.lower()
    return _input_fault(Reason.REASON_INPUT_DTYPE, spec.name, f"is {found}, the model takes {wanted}")


def input_shape(spec: TensorSpec, found: tuple[int, ...]) -> Fault:
    wanted = list(spec.row_shape)
    return _input_fault(
        Reason.REASON_INPUT_SHAPE, spec.name, f"has rows of {list(found)}, the model takes {wanted}"
    )


def _input_fault(reason: Reason, name: str, what: str) -> Fault:
    return _fault(Code.INVALID_ARGUMENT, reason, f"input {name!r} {what}", input=name)


def input_null(name: str) -> RowError:
    message = f"input {name!r} has no value in this row; impute it in preprocessing"
    return _row_error(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, message, input=name)


def expired() -> RowError:
    message = "the time budget of the row ended before the model ran"
    return _row_error(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, message)


def too_late(run_us: int) -> RowError:
    message = f"the time budget left is less than a run takes (about {run_us} µs); the model did not run"
    return _row_error(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, message, run_us=str(run_us))


def overloaded(model: str, retry_after_s: float) -> RowError:
    wait = str(max(round(retry_after_s * 1000), 1))
    return RowError(
        MODEL_QUEUE.code,
        MODEL_QUEUE.reason,
        f"the queue of model {model!r} is full; try again in {wait} ms",
        STAGE,
        MODEL_QUEUE.metadata(model=model, retry_after_ms=wait),
    )


def model_failed(model: str, version: str) -> RowError:
    """The engine raised an error or did not return. Its message is in the log only."""
    message = f"model {model!r} version {version!r} failed on this row"
    return _row_error(Code.INTERNAL, Reason.REASON_MODEL_FAILED, message, model=model, version=version)


def no_answer(model: str) -> RowError:
    message = f"the engine of model {model!r} did not answer in time; retry, or allow more time"
    return _row_error(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, message, model=model)


def no_backend(model: str) -> RowError:
    message = f"no engine can run model {model!r} at the moment; retry in a few seconds"
    return _row_error(Code.UNAVAILABLE, Reason.REASON_MODEL_FAILED, message, model=model)


def unloading(model: str, version: str) -> Fault:
    why = "is being unloaded; ask for another version"
    return _version_fault(Code.UNAVAILABLE, Reason.REASON_DRAINING, model, version, why)


def released(model: str, version: str, pipelines: Iterable[str]) -> Fault:
    names = ", ".join(pipelines)
    message = f"model {model!r} version {version!r} is named by the release of {names}; release another version first"
    return _fault(
        Code.FAILED_PRECONDITION,
        Reason.REASON_MODEL_RELEASED,
        message,
        model=model,
        version=version,
        pipelines=names,
    )


def _version_fault(code: Code, reason: Reason, model: str, version: str, why: str) -> Fault:
    return _fault(code, reason, f"model {model!r} version {version!r} {why}", model=model, version=version)


def unusable(about: Metadata, problem: str, remedy: str) -> RepositoryError:
    return RepositoryError(about.name, about.version, problem, remedy)


def not_loadable(model: str, version: str, error: RepositoryError) -> Fault:
    """An operator asked for a version that can't be loaded. Operators may know why, but not where files are."""
    code, reason = next(
        (found for kind, found in _REFUSALS.items() if isinstance(error, kind)),
        (Code.FAILED_PRECONDITION, Reason.REASON_MODEL_UNUSABLE),
    )
    problem, remedy = (without_folders(text) for text in (error.problem, error.remedy))
    named = {"model": model[:128], "version": version[:128]}
    where = " ".join(f"{kind} {name!r}" for kind, name in named.items() if name)
    return Fault(
        code,
        reason,
        f"{where or 'the repository'}: {problem}; {remedy}",
        metadata={**named, "problem": problem, "remedy": remedy},
    )


def without_folders(text: str) -> str:
    """A text for operators outside this machine, with the folders of its paths removed."""
    return _FOLDERS.sub("…/", text)


def operators_only() -> Fault:
    message = "only an authenticated part of this installation may change which models are loaded"
    return _fault(Code.PERMISSION_DENIED, Reason.REASON_PEER_UNTRUSTED, message)


def draining() -> RowError:
    message = "the executor is shutting down; try another replica"
    return _row_error(Code.UNAVAILABLE, Reason.REASON_DRAINING, message)
