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
from headrace.steps.program.program import Program, read_outputs
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
    """The program of a specification `{"steps": […], "outputs": {…}}`. A step: one key, its name, to its options.

    Raises SpecError with the path of what is wrong.
    """
    options = Options("", spec)
    for key in spec:
        if key not in ("steps", "outputs"):
            raise SpecError(str(key), "is no part of a specification; there are steps, outputs")
    found = options.raw("steps")
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise SpecError("steps", "should be a list of steps, not empty")
    steps = [_read_step(kind, f"steps[{i}]", value) for i, value in enumerate(found)]
    reads, made = _columns(steps)
    return Program(kind, tuple(steps), tuple(reads), made, read_outputs(options.raw("outputs"), made))


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


def _columns(steps: Sequence[tuple[str, Step]]) -> tuple[dict[str, None], dict[str, DType | None]]:
    """Columns needed from outside, in the order in which they are read, and columns made by the steps, with their types."""
    reads: dict[str, None] = {}
    made: dict[str, DType | None] = {}
    for _, step in steps:
        reads |= dict.fromkeys(name for name in step.reads if name not in made)
        made.update(_resolved(step, made))
    return reads, made


def _resolved(step: Step, made: Mapping[str, DType | None]) -> Mapping[str, DType | None]:
    """Types of what a step writes. A step that keeps the type of its only column has that column's type, if it is known."""
    if isinstance(step, Typed):
        return step.typed(made)
    if len(step.reads) != 1 or None not in step.writes.values():
        return step.writes
    return {n: made.get(step.reads[0]) if d is None else d for n, d in step.writes.items()}
