"""Reads the inputs and outputs of an ONNX model from its file, so that nobody has to write them down."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headrace.columns import DType
from headrace.repository import bounded_process
from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import TensorSpec

DTYPES: Mapping[str, DType] = {
    **{f"tensor({d.name.lower()})": d for d in DType},
    "tensor(float)": DType.FLOAT32,
    "tensor(double)": DType.FLOAT64,
    "tensor(string)": DType.BYTES,
}
"""The types of ONNX Runtime."""
_SILENT = 4


def inspect(
    name: str, content: bytes, stated: Iterable[TensorSpec] = (), *, seconds: float = 60.0
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of an ONNX model. `stated`: specifications of tensors whose shape the file leaves open.

    The file is not trusted: it is opened in a process of its own, with limits on time and memory. Raises RepositoryError: it
    can't be loaded; a tensor has no leading dimension for the rows, or another open dimension that `stated` does not give.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-inspect-") as folder:
        file = Path(folder) / "model.onnx"
        try:
            file.write_bytes(content)
            ended = bounded_process.run(
                ["-m", "headrace.repository.onnx_inspection", str(file)], seconds=seconds
            )
        except OSError as error:
            problem = f"can't look into it ({error.strerror or error})"
            raise RepositoryError(name, "", problem, "check disk and memory") from error
    found = _found(name, ended, seconds)
    known = {spec.name: spec for spec in stated}
    inputs, outputs = (
        tuple(_spec(name, _Tensor(*tensor), known) for tensor in found[kind])
        for kind in ("inputs", "outputs")
    )
    return inputs, outputs


class _Tensor(NamedTuple):
    """A tensor as ONNX Runtime describes it."""

    name: str
    type: str
    shape: list[int | str | None]


def _found(name: str, ended: bounded_process.Ended, seconds: float) -> dict[str, Any]:
    """The result of the process. Raises RepositoryError."""
    if ended.code is None:
        problem, remedy = f"opening it took longer than {seconds:g} s", "export a smaller model"
    elif ended.code < 0:
        problem = f"opening it ends the process that does it ({bounded_process.killed_by(ended.code)})"
        remedy = "export it anew, or give the machine more memory"
    elif ended.code == 0:
        found: dict[str, Any] = json.loads(ended.output)
        if "problem" not in found:
            return found
        problem, remedy = found["problem"], found["remedy"]
    else:
        last = (ended.error.strip().splitlines() or ["no reason"])[-1]
        problem, remedy = f"it can't be opened ({last})", "export it anew, as one file"
    raise RepositoryError(name, "", problem, remedy)


def _look(file: Path) -> dict[str, Any]:
    """In the separate process: the file's inputs and outputs, or `problem` and `remedy`."""
    try:
        # A session, not only a parser: so an added model is known to load. Imported here: only adding models needs it.
        import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        return {
            "problem": "reading a model's inputs needs onnxruntime",
            "remedy": "install it, or state --input and --output",
        }
    bounded_process.limit(bounded_process.allowance())
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    # Reading the inputs needs no threads and no optimisation, which can take hours.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its exception classes share no base but Exception
        problem = f"ONNX Runtime can't load it ({str(error).partition(chr(10))[0]})"
        return {"problem": problem, "remedy": "export it anew, as one file"}
    return {
        kind: [(t.name, t.type, t.shape) for t in tensors]
        for kind, tensors in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }


def _spec(model: str, tensor: _Tensor, known: Mapping[str, TensorSpec]) -> TensorSpec:
    if tensor.name in known:
        return known[tensor.name]
    dtype = DTYPES.get(tensor.type)
    if dtype is None:
        raise RepositoryError(
            model, "", f"{tensor.name} is a {tensor.type}, which no column can carry", "cast it"
        )
    if not tensor.shape:
        raise RepositoryError(
            model, "", f"{tensor.name} has no dimension for the rows", "export it with a leading one"
        )
    row_shape = tuple(n for n in tensor.shape[1:] if isinstance(n, int) and n > 0)
    if len(row_shape) < len(tensor.shape) - 1:
        shape = ",".join(str(n) for n in tensor.shape[1:])
        problem = f"{tensor.name} leaves its row shape open ({shape})"
        example = f"{tensor.name}:{dtype.name.lower()}:224,224,3"
        raise RepositoryError(model, "", problem, f"state it: --input or --output {example}")
    return TensorSpec(tensor.name, dtype, row_shape)


if __name__ == "__main__":
    print(json.dumps(_look(Path(sys.argv[1]))))
