"""Compiles a specification to a program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from headrace.columns import DType
from headrace.steps import registry
from headrace.steps.errors import SpecError
from headrace.steps.options import Options
from headrace.steps.program.program import Output, Program, read_output, read_outputs
from headrace.steps.registry import Kind
from headrace.steps.step import Step, Typed


def spec_json(spec: Mapping[str, object]) -> bytes:
    """The canonical JSON text of a specification: keys sorted, no spaces, UTF-8.

    Raises ValueError for NaN or infinity.
    """
    return json.dumps(
        spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def spec_sha256(spec: Mapping[str, object]) -> str:
    """SHA-256 of `spec_json(spec)`, hexadecimal."""
    return hashlib.sha256(spec_json(spec)).hexdigest()


def compile_steps(kind: Kind, spec: Mapping[str, object]) -> Program:
    """The program of a specification `{"steps": […], "outputs": {…}, "inputs": {…}?}`.

    A step is a mapping with one key, its name, to its options. `inputs`, if given, declares the columns that
    come from outside, in the form of `outputs`. Raises SpecError with the path of what is wrong.
    """
    options = Options("", spec)
    for key in spec:
        if key not in ("steps", "outputs", "inputs"):
            raise SpecError(str(key), "is no part of a specification; there are steps, outputs, inputs")
    found = options.raw("steps")
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise SpecError("steps", "should be a list of steps, not empty")
    steps = [_read_step(kind, f"steps[{i}]", value) for i, value in enumerate(found)]
    inputs = _read_inputs(options) if "inputs" in options else None
    reads, made = _columns(steps, inputs)
    outputs = read_outputs(options.raw("outputs"), made)
    return Program(kind, tuple(steps), tuple(reads), tuple(made), made, outputs)


def _read_step(kind: Kind, path: str, value: object) -> tuple[str, Step]:
    if not isinstance(value, Mapping) or len(value) != 1:
        raise SpecError(path, "should be a mapping with one key, the step's name")
    name, options = next(iter(value.items()))
    read = registry.find(kind, str(name))
    if read is None:
        known = registry.names(kind)
        close = get_close_matches(str(name), known, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise SpecError(f"{path}.{name}", f"is no {kind} step; {hint}")
    read_options = Options(f"{path}.{name}", options)
    step = read(read_options)
    read_options.done()
    return f"{path}.{name}", step


def _read_inputs(options: Options) -> dict[str, Output]:
    section = options.section("inputs")
    return {name: read_output(section, name) for name in section.values}


def _columns(
    steps: Sequence[tuple[str, Step]], inputs: Mapping[str, Output] | None
) -> tuple[dict[str, None], dict[str, DType | None]]:
    """Columns needed from outside, in the order in which they are read, and columns made by the steps, with their types."""
    reads: dict[str, None] = {}
    made: dict[str, DType | None] = {}
    for path, step in steps:
        for name in step.reads:
            if name not in made:
                if inputs is not None and name not in inputs:
                    raise SpecError(
                        path, f"reads {name!r}, which is no input, and no step before it makes it"
                    )
                reads[name] = None
        made.update(_resolved(step, made, inputs))
    return reads, made


def _resolved(
    step: Step, made: Mapping[str, DType | None], inputs: Mapping[str, Output] | None
) -> Mapping[str, DType | None]:
    """Types of what a step writes. A step that keeps the type of its only column has that column's type, if it is known."""
    if isinstance(step, Typed):
        given = {n: o.dtype for n, o in (inputs or {}).items()}
        return step.typed({**given, **made})
    if len(step.reads) != 1 or None not in step.writes.values():
        return step.writes
    source = step.reads[0]
    known = made.get(source, inputs[source].dtype if inputs and source in inputs else None)
    return {n: known if d is None else d for n, d in step.writes.items()}
