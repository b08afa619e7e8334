"""Follows the values of the columns through a compiled program, step by step, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from headrace.columns import DType
from headrace.steps.program.program import Output, Program
from headrace.steps.step import Ranged, Step
from headrace.steps.value_ranges import Known, Loss, Values


def flow(program: Program, given: Mapping[str, Values]) -> Known:
    """What the program makes of columns that hold `given`; its outputs in their declared types."""
    known = Known(dict(given))
    for path, step in program.steps:
        known.path = path
        if isinstance(step, Ranged):
            step.flow(known)
        else:
            _by_type(step, known)
    for output in program.outputs:
        known.path = f"outputs.{output.name}"
        _declare(output, known)
    return known


def _by_type(step: Step, known: Known) -> None:
    """Of a step that says nothing about values: any value of the types that it writes."""
    for name, dtype in step.writes.items():
        source = step.reads[0] if dtype is None and len(step.reads) == 1 else None
        known.put(name, known.get(source) if source else Values.of(dtype))


def _declare(output: Output, known: Known) -> None:
    made = known.get(output.name)
    if made.dtype is not None and not output.accepts(made.dtype):
        wanted = output.dtype.name.lower()
        message = f"the steps make it {made.dtype.name.lower()}, not {wanted}; add a `cast` step"
        known.misfits.append(Loss(known.path, message))
    elif made.dtype not in (None, output.dtype):
        remedy = "declare the output as it is made, or write a `cast` step with `lossy: true`"
        known.into(output.name, output.dtype, "", remedy)
    if made.chosen_by and output.dtype is DType.FLOAT64:
        remedy = f"write `type: float64` in its `{made.chosen_by}`"
        known.lose("", f"{output.name!r} was made float32 on the way: {remedy}")
    known.put(output.name, replace(made, dtype=output.dtype, chosen_by=""))
