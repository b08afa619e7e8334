"""Offline checks of a pipeline against what its models and feature views really are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.columns import DType
from headrace.pipeline.checks.whole_numbers import lossy
from headrace.pipeline.document.durations import duration_text
from headrace.pipeline.problems import Problem, suggestion
from headrace.pipeline.spec import FeaturesStage, ModelStage, Pipeline, ViewSpec
from headrace.pipeline.stage_order import column_types
from headrace.pipeline.types import ColumnType


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What a model takes and gives: tensor name → type of one row."""

    inputs: Mapping[str, ColumnType]
    outputs: Mapping[str, ColumnType]


@dataclass(frozen=True, slots=True)
class ViewSignature:
    """What a feature view gives: feature → type. `ttl_us`: how old its values may ever be; 0: any age. `request`: what an
    on-demand view takes from the request, name → type."""

    features: Mapping[str, DType]
    ttl_us: int = 0
    request: Mapping[str, DType] = field(default_factory=dict)


def check(
    pipeline: Pipeline,
    models: Mapping[str, ModelSignature] | None,
    features: Mapping[str, ViewSignature] | None,
) -> list[Problem]:
    """What does not fit: `models` and `features` (views) by name; None = not to be checked."""
    types = column_types(pipeline)
    if models is not None:
        for stage in pipeline.stages:
            if isinstance(stage, ModelStage) and stage.model in models:
                for name, output in stage.outputs.items():
                    types[output.column] = output.type or models[stage.model].outputs.get(name)
    problems = lossy(pipeline, types)
    for i, stage in enumerate(pipeline.stages):
        if isinstance(stage, ModelStage) and models is not None:
            problems += _check_model(pipeline, i, stage, models, types)
        elif isinstance(stage, FeaturesStage) and features is not None:
            problems += _check_features(pipeline, i, stage, features)
            problems += _check_request(pipeline, i, stage, features, types)
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
    pipeline: Pipeline, i: int, stage: FeaturesStage, features: Mapping[str, ViewSignature]
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
            found = real.features.get(name)
            if found is None:
                message = f"view {view!r} has no feature {name!r}{suggestion(name, real.features)}"
                problems.append(at(f"{key}.features.{name}", message))
            elif found is not dtype:
                message = f"declared as {dtype.name.lower()}, the registry says {found.name.lower()}"
                problems.append(at(f"{key}.features.{name}", message))
        if late := _beyond_ttl(spec, real):
            problems.append(at(f"{key}.freshness.{late}", _ttl_message(view, real)))
    return problems


def _beyond_ttl(spec: ViewSpec, real: ViewSignature) -> str:
    """The key of the freshness rule that allows what the time to live does not; "" if there is none."""
    rule = spec.freshness
    if rule is None or not real.ttl_us or rule.max_age_us + rule.stale_us <= real.ttl_us:
        return ""
    return "max_age" if rule.max_age_us > real.ttl_us else "stale"


def _ttl_message(view: str, real: ViewSignature) -> str:
    return f"view {view!r} lives for {duration_text(real.ttl_us)}, and older values are never used: allow no more in all"


def _check_request(
    pipeline: Pipeline,
    i: int,
    stage: FeaturesStage,
    features: Mapping[str, ViewSignature],
    types: Mapping[str, ColumnType | None],
) -> list[Problem]:
    """Do the on-demand views of a stage get what they take, and does anybody take what is sent?"""
    at = pipeline.source.problem
    sent = (*stage.entities, *stage.request)
    taken: dict[str, DType] = {}
    problems = []
    for view in stage.views:
        for name, dtype in features[view].request.items() if view in features else ():
            taken[name] = dtype
            column = types.get(name)
            if name not in sent:
                message = f"the on-demand view {view!r} takes {name!r} of the request: `request: [{name}]`"
                problems.append(at(f"stages[{i}].request", message))
            elif column is not None and not _fits_request(column, dtype):
                message = (
                    f"column {name!r} is {column}, the on-demand view {view!r} takes {dtype.name.lower()}"
                )
                problems.append(at(f"stages[{i}].request", message))
    problems += [
        at(f"stages[{i}].request[{j}]", f"no view of this stage takes {name!r}{suggestion(name, taken)}")
        for j, name in enumerate(stage.request)
        if name not in taken
    ]
    return problems


def _fits_request(column: ColumnType, wanted: DType) -> bool:
    """As the features service has it: one value per row, text for text and numbers for numbers."""
    return not column.row_shape and (column.dtype is DType.BYTES) == (wanted is DType.BYTES)
