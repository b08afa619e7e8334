"""Offline checks of a pipeline against what its models and feature views really are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.columns import DType
from headrace.pipeline.planning import column_types
from headrace.pipeline.problems import Problem, suggestion
from headrace.pipeline.spec import FeaturesStage, ModelStage, Pipeline
from headrace.pipeline.types import ColumnType


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What a model takes and gives: tensor name → type of one row."""

    inputs: Mapping[str, ColumnType]
    outputs: Mapping[str, ColumnType]


def check(
    pipeline: Pipeline,
    models: Mapping[str, ModelSignature] | None,
    features: Mapping[str, Mapping[str, DType]] | None,
) -> list[Problem]:
    """What does not fit: `models` by name, `features` by view and feature; None = not to be checked."""
    types = column_types(pipeline)
    if models is not None:
        for stage in pipeline.stages:
            if isinstance(stage, ModelStage) and stage.model in models:
                for name, output in stage.outputs.items():
                    types[output.column] = output.type or models[stage.model].outputs.get(name)
    problems: list[Problem] = []
    for i, stage in enumerate(pipeline.stages):
        if isinstance(stage, ModelStage) and models is not None:
            problems += _check_model(pipeline, i, stage, models, types)
        elif isinstance(stage, FeaturesStage) and features is not None:
            problems += _check_features(pipeline, i, stage, features)
    return problems


def _check_model(
    pipeline: Pipeline,
    i: int,
    stage: ModelStage,
    models: Mapping[str, ModelSignature],
    types: Mapping[str, ColumnType | None],
) -> list[Problem]:
    at = pipeline.source.problem
    signature = models.get(stage.model)
    if signature is None:
        return [
            at(f"stages[{i}].name", f"there is no model {stage.model!r}{suggestion(stage.model, models)}")
        ]
    problems = []
    for name, column in stage.inputs.items():
        wanted, given = signature.inputs.get(name), types.get(column)
        if wanted is None:
            message = f"model {stage.model!r} has no input {name!r}{suggestion(name, signature.inputs)}"
            problems.append(at(f"stages[{i}].inputs.{name}", message))
        elif given is not None and not given.fits(wanted):
            message = f"column {column!r} is {given}, the model's input is {wanted}"
            problems.append(at(f"stages[{i}].inputs.{name}", message))
    problems += [
        at(f"stages[{i}].inputs", f"the model needs its input {name!r} too")
        for name in signature.inputs.keys() - stage.inputs.keys()
    ]
    for name, output in stage.outputs.items():
        real = signature.outputs.get(name)
        if real is None:
            message = f"model {stage.model!r} has no output {name!r}{suggestion(name, signature.outputs)}"
            problems.append(at(f"stages[{i}].outputs.{name}", message))
        elif output.type is not None and not output.type.fits(real):
            problems.append(
                at(f"stages[{i}].outputs.{name}", f"declared as {output.type}, the model gives {real}")
            )
    return problems


def _check_features(
    pipeline: Pipeline, i: int, stage: FeaturesStage, features: Mapping[str, Mapping[str, DType]]
) -> list[Problem]:
    at = pipeline.source.problem
    problems = []
    for view, spec in stage.views.items():
        key = f"stages[{i}].views.{view}"
        real = features.get(view)
        if real is None:
            problems.append(at(key, f"there is no feature view {view!r}{suggestion(view, features)}"))
            continue
        for name, dtype in spec.features.items():
            if name not in real:
                message = f"view {view!r} has no feature {name!r}{suggestion(name, real)}"
                problems.append(at(f"{key}.features.{name}", message))
            elif real[name] is not dtype:
                message = f"declared as {dtype.name.lower()}, the registry says {real[name].name.lower()}"
                problems.append(at(f"{key}.features.{name}", message))
    return problems
