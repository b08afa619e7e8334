"""Where a pipeline's steps would silently change whole numbers, and outputs that can't have their declared type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from headrace.columns import DType
from headrace.pipeline.problems import Problem
from headrace.pipeline.spec import InputField, Pipeline
from headrace.pipeline.stage_order import reads, writes
from headrace.pipeline.stages.kind import Stage
from headrace.pipeline.stages.registry import kind_of
from headrace.pipeline.types import ColumnType
from headrace.steps.value_ranges import Known, Loss, Values


def lossy(pipeline: Pipeline, types: Mapping[str, ColumnType | None]) -> list[Problem]:
    """Each place where whole numbers would come out changed. `types`: of the models' outputs, as far as known."""
    return _found(pipeline, types, lambda known: known.losses)


def misfits(pipeline: Pipeline) -> list[Problem]:
    """Outputs of steps whose declared type is of another kind than the type that the steps make."""
    return _found(pipeline, {}, lambda known: known.misfits)


def _found(
    pipeline: Pipeline, types: Mapping[str, ColumnType | None], pick: Callable[[Known], list[Loss]]
) -> list[Problem]:
    problems = []
    values = {f.name: _of_input(f) for f in pipeline.inputs}
    for i, stage in _in_order(pipeline, set(values)):
        known = kind_of(stage).flow(stage, values, types)
        problems += [pipeline.source.problem(f"stages[{i}].{o.path}", o.message) for o in pick(known)]
        values |= {name: known.get(name) for name in writes(stage)}
    return problems


def _in_order(pipeline: Pipeline, there: set[str]) -> list[tuple[int, Stage]]:
    """The stages, each after those that write what it reads, whatever their order in the document."""
    waiting, found = list(enumerate(pipeline.stages)), list[tuple[int, Stage]]()
    while ready := [(i, s) for i, s in waiting if there.issuperset(reads(s))]:
        found += ready
        there |= {name for _, stage in ready for name in writes(stage)}
        waiting = [w for w in waiting if w not in ready]
    return found


def _of_input(field: InputField) -> Values:
    values = Values.of(field.dtype)
    if not values.whole or field.dtype is DType.BOOL:
        return values
    low, high = field.range or (None, None)
    least, most = (
        values.low if low is None else math.ceil(low),
        values.high if high is None else math.floor(high),
    )
    if field.choices:
        numbers = [
            float(c) if isinstance(c, float) else int(c) for c in field.choices if not isinstance(c, bytes)
        ]
        least, most = min(numbers), max(numbers)
    # A default need not be in the range.
    if isinstance(field.default, int):
        least, most = min(least, field.default), max(most, field.default)
    return Values(field.dtype, True, max(least, values.low), min(most, values.high))
