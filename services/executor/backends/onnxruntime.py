"""ONNX models on ONNX Runtime's CPU provider."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

from headrace.columns import DType
from headrace.repository import TensorSpec
from services.executor.backends.backend import Array, BackendError, Capabilities, Tensors

_DTYPES = {
    "tensor(bool)": DType.BOOL,
    "tensor(uint8)": DType.UINT8,
    "tensor(uint16)": DType.UINT16,
    "tensor(uint32)": DType.UINT32,
    "tensor(uint64)": DType.UINT64,
    "tensor(int8)": DType.INT8,
    "tensor(int16)": DType.INT16,
    "tensor(int32)": DType.INT32,
    "tensor(int64)": DType.INT64,
    "tensor(float16)": DType.FLOAT16,
    "tensor(float)": DType.FLOAT32,
    "tensor(double)": DType.FLOAT64,
    "tensor(string)": DType.BYTES,
}
# Errors only: ONNX Runtime writes to stderr past our log, and a failed run comes back as an exception anyway.
_FATAL = 4


class OnnxRuntime:
    """One ONNX model. `threads`: threads inside one run; with 1, a run uses its caller's thread alone."""

    name = "onnxruntime"

    def __init__(self, model: bytes, threads: int = 1) -> None:
        self._model = model
        self._threads = threads
        self._session: ort.InferenceSession | None = None
        self._output_names: list[str] = []
        self._fixed_rows: int | None = None
        # Runs in progress → when they began; a dict's single operations are safe between threads.
        self._running: dict[ort.RunOptions, float] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(device="cpu", concurrent_runs=True, max_rows=self._fixed_rows)

    def activate(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = True
        options.log_severity_level = _FATAL
        # Spinning threads would take the cores that the gRPC server needs between runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes share no base but Exception
            raise BackendError(
                f"ONNX Runtime can't load it ({_first_line(error)}); export it anew"
            ) from error
        self._output_names = [o.name for o in session.get_outputs()]
        leading = {t.shape[0] for t in (*session.get_inputs(), *session.get_outputs()) if t.shape}
        fixed = {n for n in leading if isinstance(n, int)}
        if len(fixed) > 1:
            raise BackendError(
                f"its tensors have different numbers of rows: {sorted(fixed)}; export it with one"
            )
        self._fixed_rows = fixed.pop() if fixed else None
        self._session = session

    def signature(self) -> tuple[Sequence[TensorSpec | str], Sequence[TensorSpec | str]]:
        session = self._active()
        return [_spec(t) for t in session.get_inputs()], [_spec(t) for t in session.get_outputs()]

    def run(self, inputs: Tensors) -> Tensors:
        session = self._active()
        rows = len(next(iter(inputs.values())))
        if self._fixed_rows is not None and rows < self._fixed_rows:
            inputs = {name: _padded(array, self._fixed_rows) for name, array in inputs.items()}
        options = ort.RunOptions()
        self._running[options] = time.monotonic()
        try:
            outputs = session.run(self._output_names, inputs, options)
        finally:
            del self._running[options]
        return {name: array[:rows] for name, array in zip(self._output_names, outputs, strict=True)}

    def interrupt(self, started_before: float) -> None:
        for options, started in list(self._running.items()):
            if started < started_before:
                options.terminate = True

    def deactivate(self) -> None:
        self._session = None

    def _active(self) -> ort.InferenceSession:
        if self._session is None:
            raise BackendError("the model is not active; call activate() first")
        return self._session


def _spec(tensor: ort.NodeArg) -> TensorSpec | str:
    dtype = _DTYPES.get(tensor.type)
    if dtype is None:
        return f"{tensor.name} is a {tensor.type}, which no column can carry"
    if not tensor.shape:
        return f"{tensor.name} has no batch dimension"
    return TensorSpec(tensor.name, dtype, tuple(n if isinstance(n, int) else -1 for n in tensor.shape[1:]))


def _padded(array: Array, rows: int) -> Array:
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
