"""What the library of releases refuses, as a service tells its caller."""

from __future__ import annotations

from headrace.hop.errors import Code, Fault, Reason
from headrace.releases.errors import FrozenError, ReleaseError, StaleError, UnreleasedError

# Headers that carry errors are bounded.
_MAX_TEXT = 1500


def refused(error: ReleaseError) -> Fault:
    """The fault of a refused change; its metadata name the pipeline and every problem."""
    problems = "; ".join(error.problems)[:_MAX_TEXT]
    metadata = {"pipeline": error.pipeline[:128], "problems": problems}
    if isinstance(error, StaleError):
        metadata["number"] = str(error.number)
        return Fault(Code.ABORTED, Reason.REASON_RELEASE_STALE, problems, metadata=metadata)
    if isinstance(error, FrozenError):
        metadata |= {"author": error.author[:200], "reason": error.reason[:200]}
        return Fault(Code.FAILED_PRECONDITION, Reason.REASON_RELEASE_FROZEN, problems, metadata=metadata)
    if isinstance(error, UnreleasedError):
        return unreleased(error.pipeline)
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_RELEASE_INVALID, problems, metadata=metadata)


def unreleased(pipeline: str) -> Fault:
    """There is no release of this pipeline."""
    name = pipeline[:128]
    message = (
        f"pipeline {name} has no release; make the first: headrace release deploy {name}, or DeployPipeline"
    )
    return Fault(Code.NOT_FOUND, Reason.REASON_PIPELINE_UNKNOWN, message, metadata={"pipeline": name})
