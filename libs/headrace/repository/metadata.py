"""metadata.json of one model version: its parser and checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from headrace.columns import DType
from headrace.repository.errors import RepositoryError

_DTYPES = {d.name.lower(): d for d in DType} | {"string": DType.BYTES}
_KNOWN = ("name", "version", "backend", "sha256", "inputs", "outputs", "metrics", "trained_on", "artifact")
# Written only if they are not empty.
_OPTIONAL = ("files", "lineage", "baseline", "max_rows")


def _dtype(value: object) -> DType:
    if isinstance(value, str) and value in _DTYPES:
        return _DTYPES[value]
    raise ValueError(f"is {value!r}, not one of {', '.join(_DTYPES)}")


def _distinct(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    if len({t.name for t in tensors}) < len(tensors):
        raise ValueError("name one tensor twice")
    return tensors


# What a JSON document may hold.
Text: TypeAlias = Annotated[str, Field(min_length=1)]
# May be a number in JSON.
Version: TypeAlias = Annotated[Text, BeforeValidator(lambda v: str(v) if type(v) is int else v)]
Sha256: TypeAlias = Annotated[
    str, BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v), Field(pattern="^[0-9a-f]{64}$")
]
Dimension: TypeAlias = Annotated[int, Field(strict=True, gt=0, lt=2**32)]
Object: TypeAlias = Annotated[Mapping[str, Any], BeforeValidator(lambda v: v or {})]
Tensors: TypeAlias = "Annotated[tuple[TensorSpec, ...], Field(min_length=1), AfterValidator(_distinct)]"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. `row_shape`: dimensions of one row, without the batch dimension; fixed and positive."""

    name: Text
    dtype: Annotated[DType, BeforeValidator(_dtype)]
    row_shape: tuple[Dimension, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype.name.lower()}{list(self.row_shape)}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known about one version. `sha256`: hexadecimal digest of the artifact's bytes."""

    name: Text
    version: Version
    backend: Text
    sha256: Sha256
    inputs: Tensors
    outputs: Tensors
    # Quality on held-out data, for example {"auc": 0.74}.
    metrics: Object = field(default_factory=dict)
    # The training data; free text or an object.
    trained_on: Any = None
    # The artifact's file name in the version's folder.
    artifact: Text = "model.onnx"
    # Further files in the version's folder → SHA-256 of their bytes: samples for a parity check, external weights.
    files: Annotated[Mapping[str, Sha256], BeforeValidator(lambda v: v or {})] = field(default_factory=dict)
    # Its origin, for example {"parents": ["flights_light:3"], "imported_from": …}.
    lineage: Object = field(default_factory=dict)
    # Statistics of its inputs and outputs at training time, to detect drift; an object.
    baseline: Object = field(default_factory=dict)
    # The most rows in one run. With more rows, a large model needs more memory and is not faster. None: the executor's setting.
    max_rows: Annotated[int, Field(strict=True, gt=0)] | None = None
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
    except ValidationError as error:
        wrong = "; ".join(map(_problem, error.errors()))
    except (ValueError, RecursionError) as error:
        wrong = str(error)
    remedy = "correct it, or publish the model anew"
    raise RepositoryError(model, version, f"metadata.json: {wrong}", remedy)


def _parse(content: bytes, model: str, version: str) -> Metadata:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of the file
    known = {k: v for k, v in document.items() if k in (*_KNOWN, *_OPTIONAL)}
    extra = {k: v for k, v in document.items() if k not in known}
    found = _schema().validate_python({**known, "extra": extra})
    for key, said, expected in (("name", found.name, model), ("version", found.version, version)):
        if said != expected:
            raise ValueError(f"{key} is {said!r}, the folder says {expected!r}")
    return found


@cache
def _schema() -> TypeAdapter[Metadata]:
    return TypeAdapter(Metadata)


def _problem(error: Mapping[str, Any]) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    return f"{key.removeprefix('.')}: {str(error['msg']).removeprefix('Value error, ')}"


def _tensors_json(tensors: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": t.name, "dtype": t.dtype.name.lower(), "row_shape": list(t.row_shape)} for t in tensors]
