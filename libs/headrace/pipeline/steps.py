"""The seam to the steps library: a document's steps compiled by the code that runs them."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.pipeline.stages import CompiledSteps, StepsError, StepsKind


def compile_with_library(kind: StepsKind, spec: Mapping[str, object]) -> CompiledSteps:
    """The columns that the steps read and make. Raises StepsError naming the step that is wrong."""
    from headrace import steps  # here, because reading documents without steps needs none of it

    try:
        return steps.compile_steps(kind, spec)
    except steps.SpecError as error:
        raise StepsError(error.path, str(error)) from error
