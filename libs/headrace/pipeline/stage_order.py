"""Which stage waits for which: a stage starts when the columns that it reads exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from headrace.pipeline.problems import DocumentError, Problem, suggestion
from headrace.pipeline.spec import FeaturesStage, ModelStage, Pipeline, Stage, StepsStage
from headrace.pipeline.types import ColumnType


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage, the columns that it is sent and those that come back, and who goes before and after it.

    `after`: positions (in `Plan.stages`) of the stages that write what it reads; `before`: of those that wait
    for it. Type None: the model's signature knows it.
    """

    stage: Stage
    reads: tuple[str, ...]
    writes: Mapping[str, ColumnType | None]
    after: tuple[int, ...]
    before: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The stages in the order of the document."""

    pipeline: Pipeline
    stages: tuple[PlannedStage, ...]


def reads(stage: Stage) -> tuple[str, ...]:
    """Columns that the stage is sent."""
    if isinstance(stage, FeaturesStage):
        return (*stage.entities, *stage.request)
    if isinstance(stage, StepsStage):
        return stage.reads
    return tuple(dict.fromkeys(stage.inputs.values()))


def writes(stage: Stage) -> Mapping[str, ColumnType | None]:
    """Columns that come back from the stage; None: the model's signature knows the type."""
    if isinstance(stage, FeaturesStage):
        return {n: ColumnType(d) for view in stage.views.values() for n, d in view.features.items()}
    if isinstance(stage, StepsStage):
        return dict(stage.outputs)
    return {o.column: o.type for o in stage.outputs.values()}


def column_types(pipeline: Pipeline) -> dict[str, ColumnType | None]:
    """Every column of the pipeline with its type; None: the model's signature knows it."""
    found: dict[str, ColumnType | None] = {f.name: f.type for f in pipeline.inputs}
    for stage in pipeline.stages:
        found.update(writes(stage))
    return found


def plan(pipeline: Pipeline) -> Plan:
    """The order of the stages.

    Raises DocumentError naming each unknown column, each column that is written twice, and the stages that
    wait for each other.
    """
    writers, problems = _writers(pipeline)
    after = []
    for i, stage in enumerate(pipeline.stages):
        for column in reads(stage):
            if column not in writers:
                message = f"no input and no stage gives {column!r}{suggestion(column, writers)}"
                problems.append(pipeline.source.problem(_read_key(i, stage, column), message))
        found = {writers[c] for c in reads(stage) if c in writers} - {None}
        after.append(tuple(sorted(w for w in found if w is not None)))
    for i in _circular(after):
        others = ", ".join(pipeline.stages[j].name for j in after[i])
        message = f"stage {pipeline.stages[i].name!r} waits for itself by way of {others}"
        problems.append(pipeline.source.problem(f"stages[{i}]", message))
    if problems:
        raise DocumentError(problems)
    before = [tuple(j for j, needs in enumerate(after) if i in needs) for i in range(len(after))]
    return Plan(
        pipeline,
        tuple(
            PlannedStage(s, reads(s), writes(s), after[i], before[i]) for i, s in enumerate(pipeline.stages)
        ),
    )


def _writers(pipeline: Pipeline) -> tuple[dict[str, int | None], list[Problem]]:
    """Column → position of the stage that writes it, None for an input."""
    writers: dict[str, int | None] = {f.name: None for f in pipeline.inputs}
    problems = []
    for i, stage in enumerate(pipeline.stages):
        for key, column in _written(i, stage):
            if column in writers:
                first = writers[column]
                who = "an input" if first is None else f"written by stage {pipeline.stages[first].name!r}"
                problems.append(pipeline.source.problem(key, f"column {column!r} is already {who}"))
            else:
                writers[column] = i
    return writers, problems


def _written(i: int, stage: Stage) -> Iterable[tuple[str, str]]:
    """Key and name of each column that the stage writes."""
    if isinstance(stage, FeaturesStage):
        return [
            (f"stages[{i}].views.{v}.features.{n}", n)
            for v, spec in stage.views.items()
            for n in spec.features
        ]
    if isinstance(stage, ModelStage):
        return [(f"stages[{i}].outputs.{n}", o.column) for n, o in stage.outputs.items()]
    return [(f"stages[{i}].outputs.{n}", n) for n in stage.outputs]


def _read_key(i: int, stage: Stage, column: str) -> str:
    if isinstance(stage, FeaturesStage):
        key, names = ("entities", stage.entities) if column in stage.entities else ("request", stage.request)
        return f"stages[{i}].{key}[{names.index(column)}]"
    if isinstance(stage, ModelStage):
        return f"stages[{i}].inputs.{next(n for n, c in stage.inputs.items() if c == column)}"
    return f"stages[{i}].steps"


def _circular(after: Sequence[Sequence[int]]) -> list[int]:
    """The stages that are part of a circle."""
    reach: list[set[int]] = [set(a) for a in after]
    changed = True
    while changed:
        changed = False
        for found in reach:
            more = set[int]().union(*(reach[j] for j in found)) - found
            found |= more
            changed = changed or bool(more)
    return [i for i, found in enumerate(reach) if i in found]
