"""Offline checks of a pipeline: against what its models and feature views really are, and of whole numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from headrace.pipeline.checks.whole_numbers import lossy
from headrace.pipeline.problems import Problem
from headrace.pipeline.spec import Pipeline
from headrace.pipeline.stage_order import column_types
from headrace.pipeline.stages.kind import ModelSignature, Signatures, ViewSignature
from headrace.pipeline.stages.registry import kind_of


def check(
    pipeline: Pipeline,
    models: Mapping[str, ModelSignature] | None,
    features: Mapping[str, ViewSignature] | None,
) -> list[Problem]:
    """What does not fit: `models` and `features` (views) by name; None = not to be checked."""
    signatures = Signatures(models, features)
    types = column_types(pipeline)
    for stage in pipeline.stages:
        types.update(kind_of(stage).output_types(stage, signatures))
    problems = lossy(pipeline, types)
    for i, stage in enumerate(pipeline.stages):
        for key, message in kind_of(stage).check(stage, signatures, types):
            problems.append(pipeline.source.problem(f"stages[{i}].{key}", message))
    return problems


def model_misfits(
    pipeline: Pipeline, models: Mapping[str, ModelSignature]
) -> Iterator[tuple[Sequence[str], str]]:
    """(models of a stage, what does not fit them) by their signatures. Stages with a model that is not in `models` are left
    out."""
    signatures = Signatures(models, None)
    types = column_types(pipeline)
    for stage in pipeline.stages:
        types.update(kind_of(stage).output_types(stage, signatures))
    for i, stage in enumerate(pipeline.stages):
        run = [*kind_of(stage).models(stage)]
        if run and models.keys() >= set(run):
            for key, message in kind_of(stage).check(stage, signatures, types):
                yield run, f"stages[{i}].{key}: {message}"
