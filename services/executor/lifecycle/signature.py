"""Checks that a model's inputs and outputs are as its metadata says: at load, so that no request fails because of it."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.repository import Metadata, TensorSpec
from services.executor.backends.backend import Backend
from services.executor.errors import unusable


def check_signature(about: Metadata, backend: Backend) -> None:
    """Compares the declared inputs and outputs with those of the artifact. The backend must be active.

    Raises RepositoryError; it names every difference.
    """
    inputs, outputs = backend.signature()
    problems = [*_differences("input", about.inputs, inputs), *_differences("output", about.outputs, outputs)]
    if problems:
        problem = "its signature is not what metadata.json says: " + "; ".join(problems)
        raise unusable(about, problem, "correct metadata.json, or publish the right artifact")


def _differences(kind: str, declared: Sequence[TensorSpec], real: Sequence[TensorSpec | str]) -> list[str]:
    problems = [f"{kind} {tensor}" for tensor in real if isinstance(tensor, str)]
    found = {tensor.name: tensor for tensor in real if isinstance(tensor, TensorSpec)}
    unusable = {text.partition(" ")[0] for text in real if isinstance(text, str)}
    for spec in declared:
        actual = found.pop(spec.name, None)
        if actual is None and spec.name not in unusable:
            there = ", ".join(t.name for t in real if isinstance(t, TensorSpec)) or "none"
            problems.append(f"{kind} {spec.name} is declared, the artifact has {there}")
        elif actual is not None and (
            spec.dtype != actual.dtype or not _fits(spec.row_shape, actual.row_shape)
        ):
            problems.append(f"{kind} {spec} is declared, the artifact has {actual}")
    # An undeclared output is never asked for; an undeclared input can't be filled.
    if kind == "input":
        problems += [f"{kind} {tensor} of the artifact is not declared" for tensor in found.values()]
    return problems


def _fits(declared: tuple[int, ...], real: tuple[int, ...]) -> bool:
    """Whether the shapes are equal; −1 in `real` (left open by the artifact) fits anything."""
    return len(declared) == len(real) and all(r in (-1, d) for d, r in zip(declared, real, strict=True))
