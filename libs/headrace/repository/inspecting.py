"""What an ONNX artifact takes and gives, by its own account, so that nobody has to write it down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.columns import DType
from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import TensorSpec

_DTYPES: Mapping[str, DType] = {
    **{f"tensor({d.name.lower()})": d for d in DType},
    "tensor(float)": DType.FLOAT32,
    "tensor(double)": DType.FLOAT64,
    "tensor(string)": DType.BYTES,
}
_SILENT = 4


def inspect(
    name: str, content: bytes, stated: Iterable[TensorSpec] = ()
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an ONNX model. `stated`: tensors by name that the artifact leaves open.

    Raises RepositoryError: it can't be loaded; a tensor without a leading dimension for the rows, or with another
    open one that nobody stated.
    """
    try:
        # A session, not a parser: what is added is known to load. Only who adds models needs the engine.
        import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        raise RepositoryError(
            name,
            "",
            "reading a model's inputs needs onnxruntime",
            "install it, or state --input and --output",
        ) from None
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    # Looking needs neither threads nor hours of optimisation.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes share no base but Exception
        problem = f"ONNX Runtime can't load it ({str(error).partition(chr(10))[0]})"
        raise RepositoryError(name, "", problem, "export it anew, as one file") from error
    known = {spec.name: spec for spec in stated}
    tensors = tuple(
        tuple(_spec(name, tensor, known) for tensor in found)
        for found in (session.get_inputs(), session.get_outputs())
    )
    return tensors[0], tensors[1]


def _spec(model: str, tensor: Any, known: Mapping[str, TensorSpec]) -> TensorSpec:
    if tensor.name in known:
        return known[tensor.name]
    dtype = _DTYPES.get(tensor.type)
    if dtype is None:
        raise RepositoryError(
            model, "", f"{tensor.name} is a {tensor.type}, which no column can carry", "cast it"
        )
    if not tensor.shape:
        raise RepositoryError(
            model, "", f"{tensor.name} has no dimension for the rows", "export it with a leading one"
        )
    row_shape = tuple(tensor.shape[1:])
    if not all(isinstance(n, int) and n > 0 for n in row_shape):
        shape = ",".join(str(n) for n in row_shape)
        problem = f"{tensor.name} leaves its row shape open ({shape})"
        example = f"{tensor.name}:{dtype.name.lower()}:224,224,3"
        raise RepositoryError(model, "", problem, f"state it: --input or --output {example}")
    return TensorSpec(tensor.name, dtype, row_shape)
