"""`model` stages: run a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from headrace.pipeline.document.entries import Entry
from headrace.pipeline.problems import suggestion
from headrace.pipeline.stages.kind import (
    Finding,
    ModelSignature,
    Setting,
    Signatures,
    StageKind,
    Written,
    refuse_unknown_settings,
)
from headrace.pipeline.types import ColumnType, read_type


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Where an output of a model goes. `type` None: whatever the model's signature says."""

    column: str
    type: ColumnType | None = None


@dataclass(frozen=True, slots=True)
class ModelStage:
    """Runs a model. `version` "": the newest loaded. `inputs`: model input → column. `outputs`: model output → column."""

    kind: ClassVar[str] = "model"

    name: str
    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, ModelOutput]


class ModelKind(StageKind[ModelStage]):
    name = ModelStage.kind

    def answered_by(self, stage: ModelStage) -> str | None:
        # Which version is the newest loaded, the executor alone knows, and it may have changed since its last reply.
        return f"{stage.model}:{stage.version}" if stage.version else None

    def read(self, entry: Entry) -> ModelStage | None:
        required = ["model", "name", "inputs", "outputs"]
        fields = entry.fields(required, ["version"])
        if not set(required) <= fields.keys():
            return None
        outputs = {n: read_output(e) for n, e in fields["outputs"].entries().items()}
        return read_model(fields["model"].name(), fields, outputs)

    def reads(self, stage: ModelStage) -> Mapping[str, str]:
        return read_columns(stage)

    def writes(self, stage: ModelStage) -> list[Written]:
        return [Written(o.column, o.type, f"outputs.{name}") for name, o in stage.outputs.items()]

    def models(self, stage: ModelStage) -> Mapping[str, str]:
        return {stage.model: stage.version}

    def pinned(
        self, stage: ModelStage, models: Mapping[str, str], settings: Mapping[str, Setting]
    ) -> ModelStage:
        refuse_unknown_settings(stage, settings, ())
        return replace(stage, version=models.get(stage.model, stage.version))

    def output_types(self, stage: ModelStage, signatures: Signatures) -> Mapping[str, ColumnType | None]:
        return model_output_types(stage, signatures)

    def check(
        self, stage: ModelStage, signatures: Signatures, types: Mapping[str, ColumnType | None]
    ) -> Iterable[Finding]:
        return check_model(stage, signatures, types)


def read_model(stage: str, fields: Mapping[str, Entry], outputs: Mapping[str, ModelOutput]) -> ModelStage:
    """The model in the keys `name`, `inputs` and, if it is there, `version`; also as a part of a stage of another kind."""
    return ModelStage(
        stage,
        fields["name"].name(),
        fields["version"].text() if "version" in fields else "",
        MappingProxyType({n: e.name() for n, e in fields["inputs"].entries().items()}),
        MappingProxyType(dict(outputs)),
    )


def read_columns(stage: ModelStage) -> dict[str, str]:
    """Each column that the model is sent, and the key that names it."""
    found: dict[str, str] = {}
    for name, column in stage.inputs.items():
        found.setdefault(column, f"inputs.{name}")
    return found


def model_output_types(stage: ModelStage, signatures: Signatures) -> dict[str, ColumnType | None]:
    """The type of each column that the model gives: as declared, else as its signature says."""
    signature = (signatures.models or {}).get(stage.model)
    real = signature.outputs if signature else {}
    return {o.column: o.type or real.get(name) for name, o in stage.outputs.items()}


def check_model(
    stage: ModelStage, signatures: Signatures, types: Mapping[str, ColumnType | None]
) -> Iterable[Finding]:
    """What does not fit the model's signature; keys as in a `model` stage."""
    if signatures.models is None:
        return
    signature = signatures.models.get(stage.model)
    if signature is None:
        hint = suggestion(stage.model, signatures.models)
        yield Finding("name", f"there is no model {stage.model!r}{hint}")
        return
    yield from _check_inputs(stage, signature, types)
    yield from _check_outputs(stage, signature)


def read_output(entry: Entry) -> ModelOutput:
    """A column by its name, or with its type."""
    if not entry.is_mapping:
        return ModelOutput(entry.name())
    fields = entry.fields(["column", "type"], ["shape"])
    column = fields["column"].name() if "column" in fields else ""
    return ModelOutput(column, read_type(fields))


def _check_inputs(
    stage: ModelStage, signature: ModelSignature, types: Mapping[str, ColumnType | None]
) -> Iterable[Finding]:
    for name, column in stage.inputs.items():
        wanted, given = signature.inputs.get(name), types.get(column)
        if wanted is None:
            message = f"model {stage.model!r} has no input {name!r}{suggestion(name, signature.inputs)}"
            yield Finding(f"inputs.{name}", message)
        elif given is not None and not given.fits(wanted):
            yield Finding(f"inputs.{name}", f"column {column!r} is {given}, the model's input is {wanted}")
    for name in signature.inputs.keys() - stage.inputs.keys():
        yield Finding("inputs", f"the model needs its input {name!r} too")


def _check_outputs(stage: ModelStage, signature: ModelSignature) -> Iterable[Finding]:
    for name, output in stage.outputs.items():
        real = signature.outputs.get(name)
        if real is None:
            message = f"model {stage.model!r} has no output {name!r}{suggestion(name, signature.outputs)}"
            yield Finding(f"outputs.{name}", message)
        elif output.type is not None and not output.type.fits(real):
            yield Finding(f"outputs.{name}", f"declared as {output.type}, the model gives {real}")


MODEL = ModelKind()
