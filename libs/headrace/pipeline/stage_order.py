"""Which stage waits for which: a stage starts when the columns that it reads exist."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.pipeline.problems import DocumentError, Problem, suggestion
from headrace.pipeline.spec import Pipeline
from headrace.pipeline.stages.kind import Stage
from headrace.pipeline.stages.registry import kind_of
from headrace.pipeline.types import ColumnType


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage, the columns that it is sent and those that come back, and its neighbours in the order.

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
    """The stages in the order of the document. `first`: positions of those that wait for none; `is_chain`: each waits for the
    one before it alone."""

    pipeline: Pipeline
    stages: tuple[PlannedStage, ...]
    first: tuple[int, ...] = field(init=False)
    is_chain: bool = field(init=False)

    def __post_init__(self) -> None:
        first = tuple(i for i, stage in enumerate(self.stages) if not stage.after)
        object.__setattr__(self, "first", first)
        chain = len(first) == 1 and all(len(stage.before) <= 1 for stage in self.stages)
        object.__setattr__(self, "is_chain", chain)


def reads(stage: Stage) -> tuple[str, ...]:
    """Columns that the stage is sent."""
    return tuple(kind_of(stage).reads(stage))


def writes(stage: Stage) -> dict[str, ColumnType | None]:
    """Columns that come back from the stage; None: the model's signature knows the type."""
    return {written.column: written.type for written in kind_of(stage).writes(stage)}


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
        for column, key in kind_of(stage).reads(stage).items():
            if column not in writers:
                message = f"no input and no stage gives {column!r}{suggestion(column, writers)}"
                problems.append(pipeline.source.problem(f"stages[{i}].{key}", message))
        found = {writers[c] for c in reads(stage) if c in writers} - {None}
        after.append(tuple(sorted(w for w in found if w is not None)))
    for i in _circular(after):
        others = ", ".join(pipeline.stages[j].name for j in after[i])
        message = f"stage {pipeline.stages[i].name!r} waits for itself through {others}"
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
        for column, _, key in kind_of(stage).writes(stage):
            if column in writers:
                first = writers[column]
                who = "an input" if first is None else f"written by stage {pipeline.stages[first].name!r}"
                problems.append(
                    pipeline.source.problem(f"stages[{i}].{key}", f"column {column!r} is already {who}")
                )
            else:
                writers[column] = i
    return writers, problems


def _circular(after: Sequence[Sequence[int]]) -> list[int]:
    """The stages that wait for themselves, directly or through others."""
    reach: list[set[int]] = [set(a) for a in after]
    changed = True
    while changed:
        changed = False
        for found in reach:
            more = set[int]().union(*(reach[j] for j in found)) - found
            found |= more
            changed = changed or bool(more)
    return [i for i, found in enumerate(reach) if i in found]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A plan in two: `head`, the stages whose results vary (features) and what they wait for; `tail`, all others. For the same
    values of the columns `between` the tail always gives the same. The names are sorted; `writes`: outputs that the tail writes.
    """

    head: Plan
    tail: Plan
    between: tuple[str, ...]
    writes: tuple[str, ...]


def cut(whole: Plan) -> Cut:
    """Cuts a plan where its results begin to depend on nothing but columns."""
    head: set[int] = set()
    waiting = [i for i, planned in enumerate(whole.stages) if kind_of(planned.stage).varies]
    while waiting:
        i = waiting.pop()
        if i not in head:
            head.add(i)
            waiting.extend(whole.stages[i].after)
    tail = set(range(len(whole.stages))) - head
    read = {name for i in tail for name in whole.stages[i].reads}
    written = {name for i in tail for name in whole.stages[i].writes}
    outputs = {output.name for output in whole.pipeline.outputs}
    return Cut(
        _part(whole, sorted(head)),
        _part(whole, sorted(tail)),
        tuple(sorted(read - written)),
        tuple(sorted(outputs & written)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Towards:
    """The part of a plan that leads to one column and gives the same for the same values of the columns `reads`: inputs, and
    columns of stages whose results vary (features). `positions`: of its stages in the whole plan."""

    plan: Plan
    positions: tuple[int, ...]
    reads: tuple[str, ...]


def towards(whole: Plan, column: str, known: Collection[str] = ()) -> Towards:
    """The part that leads to a column from the inputs, or from columns that are `known`. It is empty if no stage, or one whose
    results vary, writes the column."""
    writers = {name: i for i, planned in enumerate(whole.stages) for name in planned.writes}
    kept: set[int] = set()
    wanted, given = [column], set[str]()
    while wanted:
        name = wanted.pop()
        i = writers.get(name)
        if i is None or name in known or kind_of(whole.stages[i].stage).varies:
            given.add(name)
        elif i not in kept:
            kept.add(i)
            wanted.extend(whole.stages[i].reads)
    positions = tuple(sorted(kept))
    order = [name for name in column_types(whole.pipeline) if name in given and kept]
    return Towards(_part(whole, positions), positions, tuple(order))


def explainable_columns(pipeline: Pipeline) -> dict[str, ColumnType]:
    """Inputs and feature columns, which predictions are explained by, with their types."""
    found = {f.name: f.type for f in pipeline.inputs}
    for stage in pipeline.stages:
        if kind_of(stage).varies:
            found.update({name: kind for name, kind in writes(stage).items() if kind is not None})
    return found


def _part(whole: Plan, kept: Sequence[int]) -> Plan:
    """The plan of some of the stages; what they wait for elsewhere has been done before they start."""
    place = {old: new for new, old in enumerate(kept)}
    stages = [whole.stages[old] for old in kept]
    return Plan(
        whole.pipeline,
        tuple(
            PlannedStage(
                s.stage,
                s.reads,
                s.writes,
                tuple(place[j] for j in s.after if j in place),
                tuple(place[j] for j in s.before if j in place),
            )
            for s in stages
        ),
    )
