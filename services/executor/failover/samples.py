"""Sample rows to compare a model's backends with: recorded with the model, or random."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.columns import DType
from headrace.repository import Artifact, TensorSpec, Tolerance
from services.executor.backends.backend import Array, Tensors
from services.executor.errors import unusable

SAMPLES = "samples.json"
_RANDOM_ROWS = 8


@dataclass(frozen=True, slots=True)
class Samples:
    """Tensors of shape (rows, *row_shape). `outputs`: the model's answers where it was made; None: not recorded."""

    inputs: Tensors
    outputs: Tensors | None


def read_samples(artifact: Artifact) -> Samples:
    """The samples of the version's `samples.json`: {"inputs": {name: rows}, "outputs": {name: rows}}.

    Without that file: random rows from a fixed seed. Raises RepositoryError if the file can't be used.
    """
    about = artifact.metadata
    content = artifact.files.get(SAMPLES)
    if content is None:
        random = np.random.default_rng(0)
        return Samples({s.name: _random(s, random) for s in about.inputs}, None)
    try:
        document = json.loads(content)
        inputs = _tensors(document["inputs"], {s.name: s for s in about.inputs})
        outputs = _tensors(document["outputs"], {s.name: s for s in about.outputs})
        if len({len(a) for a in (*inputs.values(), *outputs.values())}) != 1 or not len(
            next(iter(inputs.values()))
        ):
            raise ValueError("its tensors differ in their number of rows, or have none")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unusable(about, f"{SAMPLES} can't be used ({error})", "publish it with good samples") from error
    return Samples(inputs, outputs)


def find_difference(found: Tensors, expected: Tensors, tolerance: Tolerance) -> str:
    """Where the outputs of two runs differ by more than `tolerance`, and by how much; empty if nowhere."""
    for name, wanted in expected.items():
        got = found[name]
        if got.shape != wanted.shape:
            return f"{name} has shape {list(got.shape)}, not {list(wanted.shape)}"
        if wanted.dtype.kind == "O":
            if [_text(v) for v in got.ravel().tolist()] != [_text(v) for v in wanted.ravel().tolist()]:
                return f"{name} has other texts"
            continue
        a, b = got.astype(np.float64), wanted.astype(np.float64)
        if not np.allclose(a, b, rtol=tolerance.relative, atol=tolerance.absolute, equal_nan=True):
            return f"{name} differs by up to {np.nanmax(np.abs(a - b)):.3g}"
    return ""


def _random(spec: TensorSpec, random: np.random.Generator) -> Array:
    shape = (_RANDOM_ROWS, *spec.row_shape)
    if spec.dtype is DType.BYTES:
        return np.full(shape, "", object)
    if spec.dtype.is_float:
        return random.uniform(-1, 1, shape).astype(spec.dtype.numpy)
    # Integers may be indices into a table of unknown length: 0 and 1 are the safest guess.
    return random.integers(0, 2, shape).astype(spec.dtype.numpy)


def _tensors(document: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if set(document) != set(specs):
        raise ValueError(f"it has {sorted(document)}, the model {sorted(specs)}")
    return {name: _tensor(document[name], spec) for name, spec in specs.items()}


def _tensor(values: Any, spec: TensorSpec) -> Array:
    array: Array = np.asarray(values, spec.dtype.numpy)
    if array.shape[1:] != spec.row_shape:
        raise ValueError(f"{spec.name} has rows of {list(array.shape[1:])}, the model {list(spec.row_shape)}")
    return array


def _text(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
