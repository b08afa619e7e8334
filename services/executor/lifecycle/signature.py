"""Whether a model is what its metadata says: checked when it is loaded, so that no request finds out."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.repository import Metadata, RepositoryError, TensorSpec
from services.executor.backends.backend import Backend


def check_signature(about: Metadata, backend: Backend) -> None:
    """Compares the declared inputs and outputs with those of the active backend's artifact.

    Raises RepositoryError naming every difference.
    """
    inputs, outputs = backend.signature()
    problems = [*_differences("input", about.inputs, inputs), *_differences("output", about.outputs, outputs)]
    if problems:
        raise RepositoryError(
            about.name,
            about.version,
            "its signature is not what metadata.json says: " + "; ".join(problems),
            "correct metadata.json, or publish the right artifact",
        )


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
    # An output that nobody declared is not asked for; an input that nobody declared can't be filled.
    if kind == "input":
        problems += [f"{kind} {tensor} of the artifact is not declared" for tensor in found.values()]
    return problems


def _fits(declared: tuple[int, ...], real: tuple[int, ...]) -> bool:
    """Equal, where −1 (left open by the artifact) fits anything."""
    return len(declared) == len(real) and all(r in (-1, d) for d, r in zip(declared, real, strict=True))
