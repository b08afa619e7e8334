"""Reads the `stages` of a document."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, TypeAlias

from headrace.columns import DType
from headrace.pipeline.document.entries import Entry
from headrace.pipeline.problems import suggestion
from headrace.pipeline.spec import (
    FeaturesStage,
    Freshness,
    ModelOutput,
    ModelStage,
    OnMissing,
    Stage,
    StepsStage,
    ViewSpec,
)
from headrace.pipeline.types import TYPE_NAMES, ColumnType, read_type, read_typed
from headrace.steps import SpecError, compile_steps, spec_json, spec_sha256

KINDS = ("features", "preprocessing", "model", "postprocessing")
# A row says which of its views fell back in 64 bits, 4 reasons a view.
MAX_VIEWS = 16
_MILLISECOND_US = 1_000
_MAX_AGE_US = 36_500 * 86_400_000_000
StepsKind: TypeAlias = Literal["preprocessing", "postprocessing"]


def read_stages(entry: Entry | None) -> tuple[Stage, ...]:
    """The stages in the order of the document; those that can't be read are logged and left out."""
    if entry is None:
        return ()
    stages: list[Stage] = []
    items = entry.items()
    if not items:
        entry.fail("needs at least one stage")
    for item in items:
        stage = _read_stage(item)
        if stage is None:
            continue
        if stage.name in [s.name for s in stages]:
            item.fail(f"two stages are named {stage.name!r}")
        stages.append(stage)
    if sum(len(s.views) for s in stages if isinstance(s, FeaturesStage)) > MAX_VIEWS:
        entry.fail(f"more than {MAX_VIEWS} feature views in one pipeline")
    return tuple(stages)


def _read_stage(entry: Entry) -> Stage | None:
    kind = next(iter(entry.entries()), "")
    match kind:
        case "features":
            return _read_features(entry)
        case "model":
            return _read_model(entry)
        case "preprocessing" | "postprocessing":
            return _read_steps(entry, kind)
    hint = suggestion(kind, KINDS)
    entry.fail(f"should begin with its kind and name, such as `model: NAME`; begins with {kind!r}{hint}")
    return None


def _read_features(entry: Entry) -> FeaturesStage | None:
    required = ["features", "feature_service", "entities", "views"]
    fields = entry.fields(required, ["request"])
    if not set(required) <= fields.keys():
        return None
    views = {name: _read_view(name, e) for name, e in fields["views"].entries().items()}
    if not views:
        fields["views"].fail("needs at least one view")
    seen: dict[str, str] = {}
    for view, spec in views.items():
        for feature in spec.features:
            if feature in seen:
                fields["views"].fail(f"feature {feature!r} is in the views {seen[feature]!r} and {view!r}")
            seen[feature] = view
    entities = fields["entities"].names()
    request = fields["request"].names() if "request" in fields else ()
    for name in request:
        if name in entities:
            fields["request"].fail(f"{name!r} is sent already, as an entity")
    return FeaturesStage(
        fields["features"].name(),
        fields["feature_service"].name(),
        entities,
        MappingProxyType(views),
        request,
    )


def _read_view(name: str, entry: Entry) -> ViewSpec:
    entry.check_name(name)
    fields = entry.fields(["features"], ["on_missing", "freshness"])
    features: dict[str, DType] = {}
    for feature, e in fields["features"].entries().items() if "features" in fields else ():
        e.check_name(feature)
        features[feature] = TYPE_NAMES[e.choice(TYPE_NAMES)]
    if "features" in fields and not features:
        fields["features"].fail("needs at least one feature")
    on_missing = _read_answer(fields["on_missing"]) if "on_missing" in fields else "default"
    freshness = _read_freshness(fields["freshness"], on_missing) if "freshness" in fields else None
    return ViewSpec(MappingProxyType(features), on_missing, freshness)


def _read_answer(entry: Entry) -> OnMissing:
    return "refuse" if entry.choice(["default", "refuse"]) == "refuse" else "default"


def _read_freshness(entry: Entry, on_missing: OnMissing) -> Freshness | None:
    """`on_missing`: what `otherwise` is if it is not said."""
    fields = entry.fields(["max_age"], ["stale", "otherwise"])
    if "max_age" not in fields:
        return None
    return Freshness(
        fields["max_age"].duration(_MILLISECOND_US, _MAX_AGE_US),
        fields["stale"].duration(0, _MAX_AGE_US) if "stale" in fields else 0,
        _read_answer(fields["otherwise"]) if "otherwise" in fields else on_missing,
    )


def _read_steps(entry: Entry, kind: StepsKind) -> StepsStage | None:
    fields = entry.fields([kind, "steps", "outputs"])
    if len(fields) < 3:
        return None
    outputs: dict[str, ColumnType] = {}
    for name, e in fields["outputs"].entries().items():
        e.check_name(name)
        outputs[name] = read_typed(e)
    steps = [e.plain() for e in fields["steps"].items()]
    spec: dict[str, object] = {"steps": steps, "outputs": {n: _typed(t) for n, t in outputs.items()}}
    try:
        program = compile_steps(kind, spec)
    except SpecError as error:
        entry.log.add(f"{entry.key}.{error.path}" if error.path else entry.key, str(error))
        return None
    for name in outputs:
        if name not in program.writes:
            fields["outputs"].fail(f"no step makes {name!r}{suggestion(name, program.writes)}")
    return StepsStage(
        kind,
        fields[kind].name(),
        MappingProxyType(spec),
        spec_json(spec),
        spec_sha256(spec),
        tuple(program.reads),
        tuple(program.writes),
        MappingProxyType(outputs),
    )


def _typed(kind: ColumnType) -> dict[str, object]:
    """The long form of a type, so that one meaning has one hash."""
    name = "string" if kind.text else kind.dtype.name.lower()
    return {"type": name, "shape": list(kind.row_shape)} if kind.row_shape else {"type": name}


def _read_model(entry: Entry) -> ModelStage | None:
    fields = entry.fields(["model", "name", "inputs", "outputs"], ["version"])
    if not {"model", "name", "inputs", "outputs"} <= fields.keys():
        return None
    return ModelStage(
        fields["model"].name(),
        fields["name"].name(),
        fields["version"].text() if "version" in fields else "",
        MappingProxyType({n: e.name() for n, e in fields["inputs"].entries().items()}),
        MappingProxyType({n: _read_model_output(e) for n, e in fields["outputs"].entries().items()}),
    )


def _read_model_output(entry: Entry) -> ModelOutput:
    if not entry.is_mapping:
        return ModelOutput(entry.name())
    fields = entry.fields(["column", "type"], ["shape"])
    column = fields["column"].name() if "column" in fields else ""
    return ModelOutput(column, read_type(fields))
