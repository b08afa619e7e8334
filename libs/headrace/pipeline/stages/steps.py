"""`preprocessing` and `postprocessing` stages: run steps over columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from headrace.pipeline.document.entries import Entry
from headrace.pipeline.problems import suggestion
from headrace.pipeline.stages.kind import StageKind, Written
from headrace.pipeline.types import ColumnType, read_typed
from headrace.steps import SpecError, compile_steps, spec_json, spec_sha256
from headrace.steps.program.exactness import flow
from headrace.steps.value_ranges import Known, Values

StepsKindName: TypeAlias = Literal["preprocessing", "postprocessing"]


@dataclass(frozen=True, slots=True)
class StepsStage:
    """Runs steps over columns. `spec`: what the service is sent as `spec_json`, known by `spec_sha256`."""

    kind: StepsKindName
    name: str
    spec: Mapping[str, object]
    spec_json: bytes
    spec_sha256: str
    reads: tuple[str, ...]
    # Every column that the steps make; only `outputs` leave the service.
    writes: tuple[str, ...]
    outputs: Mapping[str, ColumnType]


class StepsKind(StageKind[StepsStage]):
    """Stages that run steps, in one of the two services that do."""

    def __init__(self, name: StepsKindName) -> None:
        self.name: StepsKindName = name

    def answered_by(self, stage: StepsStage) -> str | None:  # noqa: ARG002 - the document says all
        return ""

    def read(self, entry: Entry) -> StepsStage | None:
        fields = entry.fields([self.name, "steps", "outputs"])
        if len(fields) < 3:
            return None
        outputs: dict[str, ColumnType] = {}
        for name, e in fields["outputs"].entries().items():
            e.check_name(name)
            outputs[name] = read_typed(e)
        steps = [e.plain() for e in fields["steps"].items()]
        spec: dict[str, object] = {"steps": steps, "outputs": {n: _typed(t) for n, t in outputs.items()}}
        try:
            program = compile_steps(self.name, spec)
        except SpecError as error:
            entry.log.add(f"{entry.key}.{error.path}" if error.path else entry.key, str(error))
            return None
        for name in outputs:
            if name not in program.writes:
                fields["outputs"].fail(f"no step makes {name!r}{suggestion(name, program.writes)}")
        return StepsStage(
            self.name,
            fields[self.name].name(),
            MappingProxyType(spec),
            spec_json(spec),
            spec_sha256(spec),
            tuple(program.reads),
            tuple(program.writes),
            MappingProxyType(outputs),
        )

    def reads(self, stage: StepsStage) -> Mapping[str, str]:
        return dict.fromkeys(stage.reads, "steps")

    def writes(self, stage: StepsStage) -> list[Written]:
        return [Written(name, kind, f"outputs.{name}") for name, kind in stage.outputs.items()]

    def flow(
        self,
        stage: StepsStage,
        given: Mapping[str, Values],
        types: Mapping[str, ColumnType | None],  # noqa: ARG002 - the steps tell more than the types
    ) -> Known:
        # The stage was compiled when the document was read, so it can be compiled.
        program = compile_steps(stage.kind, stage.spec)
        return flow(program, {name: given.get(name, Values()) for name in stage.reads})


def _typed(kind: ColumnType) -> dict[str, object]:
    """The long form of a type, so that one meaning has one hash."""
    name = "string" if kind.text else kind.dtype.name.lower()
    return {"type": name, "shape": list(kind.row_shape)} if kind.row_shape else {"type": name}


PREPROCESSING = StepsKind("preprocessing")
POSTPROCESSING = StepsKind("postprocessing")
