"""metadata.json of one model version: its parser and checks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.columns import DType
from headrace.repository.errors import RepositoryError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DTYPES = {d.name.lower(): d for d in DType} | {"string": DType.BYTES}
_KNOWN = ("name", "version", "backend", "sha256", "inputs", "outputs", "metrics", "trained_on", "artifact")
# Written only if they are not empty.
_OPTIONAL = ("files", "lineage", "baseline", "max_rows")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. `row_shape`: dimensions of one row, without the batch dimension; fixed and positive."""

    name: str
    dtype: DType
    row_shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype.name.lower()}{list(self.row_shape)}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known about one version. `sha256`: hexadecimal digest of the artifact's bytes."""

    name: str
    version: str
    backend: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    # Quality on held-out data, for example {"auc": 0.74}.
    metrics: Mapping[str, Any] = field(default_factory=dict)
    # The training data; free text or an object.
    trained_on: Any = None
    # The artifact's file name in the version's folder.
    artifact: str = "model.onnx"
    # Further files in the version's folder → SHA-256 of their bytes: samples for a parity check, external weights.
    files: Mapping[str, str] = field(default_factory=dict)
    # Its origin, for example {"parents": ["flights_light:3"], "imported_from": …}.
    lineage: Mapping[str, Any] = field(default_factory=dict)
    # Statistics of its inputs and outputs at training time, to detect drift; an object.
    baseline: Mapping[str, Any] = field(default_factory=dict)
    # The most rows in one run. With more rows, a large model needs more memory and is not faster. None: the executor's setting.
    max_rows: int | None = None
    # All other keys, unchecked.
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """metadata.json, readable and with sorted keys."""
        document = {
            **self.extra,
            **{k: getattr(self, k) for k in _KNOWN},
            **{k: getattr(self, k) for k in _OPTIONAL if getattr(self, k)},
            "inputs": _tensors_json(self.inputs),
            "outputs": _tensors_json(self.outputs),
        }
        return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of metadata.json as `publish` writes it; a model's index lists it."""
        return hashlib.sha256(self.to_json()).hexdigest()


def parse(content: bytes, model: str, version: str) -> Metadata:
    """The metadata of `model`/`version`, as named by its folders.

    Raises RepositoryError naming the key that is wrong.
    """
    try:
        return _parse(content, model, version)
    except _WrongError as wrong:
        raise RepositoryError(
            model, version, f"metadata.json: {wrong}", "correct it, or publish the model anew"
        ) from None


class _WrongError(Exception):
    """What is wrong with the document; the caller adds the model and version."""


def _parse(content: bytes, model: str, version: str) -> Metadata:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _WrongError(f"not JSON ({error})") from None
    if not isinstance(document, dict):
        raise _WrongError("not an object")
    for key, expected in (("name", model), ("version", version)):
        if (found := _text(document, key)) != expected:
            raise _WrongError(f"{key} is {found!r}, the folder says {expected!r}")
    return Metadata(
        name=model,
        version=version,
        backend=_text(document, "backend"),
        sha256=_digest(document, "sha256"),
        inputs=_tensors(document, "inputs"),
        outputs=_tensors(document, "outputs"),
        metrics=_object(document, "metrics"),
        trained_on=document.get("trained_on"),
        artifact=_text({"artifact": "model.onnx", **document}, "artifact"),
        files=_files(document),
        lineage=_object(document, "lineage"),
        baseline=_object(document, "baseline"),
        max_rows=_max_rows(document),
        extra={k: v for k, v in document.items() if k not in (*_KNOWN, *_OPTIONAL)},
    )


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    # A version may be written as a number in JSON.
    if key == "version" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise _WrongError(f"{key} is missing or no text")
    return value


def _digest(document: Mapping[str, Any], key: str) -> str:
    value = _text(document, key).lower()
    if _SHA256.fullmatch(value) is None:
        raise _WrongError(f"{key} is not 64 hexadecimal digits")
    return value


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise _WrongError(f"{key} is not an object")
    return value


def _max_rows(document: Mapping[str, Any]) -> int | None:
    value = document.get("max_rows")
    if value is not None and not (type(value) is int and value > 0):
        raise _WrongError("max_rows is no positive integer")
    return value


def _files(document: Mapping[str, Any]) -> dict[str, str]:
    files = _object(document, "files")
    return {name: _digest(files, name) for name in files}


def _tensors(document: Mapping[str, Any], key: str) -> tuple[TensorSpec, ...]:
    entries = document.get(key)
    if not isinstance(entries, list) or not entries:
        raise _WrongError(f"{key} is missing or empty")
    tensors = tuple(_tensor(entry, f"{key}[{i}]") for i, entry in enumerate(entries))
    if len({t.name for t in tensors}) < len(tensors):
        raise _WrongError(f"{key} name one tensor twice")
    return tensors


def _tensor(entry: Any, where: str) -> TensorSpec:
    if not isinstance(entry, dict):
        raise _WrongError(f"{where} is not an object")
    name, dtype, shape = entry.get("name"), entry.get("dtype"), entry.get("row_shape", [])
    if not isinstance(name, str) or not name:
        raise _WrongError(f"{where}.name is missing or no text")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise _WrongError(f"{where}.dtype is {dtype!r}, not one of {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 2**32 for n in shape):
        raise _WrongError(
            f"{where}.row_shape is {shape!r}, not a list of positive integers (without the batch dimension)"
        )
    return TensorSpec(name, _DTYPES[dtype], tuple(shape))


def _tensors_json(tensors: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": t.name, "dtype": t.dtype.name.lower(), "row_shape": list(t.row_shape)} for t in tensors]
