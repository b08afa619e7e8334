"""The ONNX Runtime backend: ONNX models on the CPU, or on CUDA if the settings ask for it and it is available."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast, get_args

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types
import structlog

from headrace.columns import DType
from headrace.repository import Artifact, TensorSpec
from headrace.repository.onnx_inspection import DTYPES
from services.executor.backends.backend import (
    Array,
    Backend,
    BackendError,
    BackendFactory,
    BackendLostError,
    Capabilities,
    Environment,
    Progress,
    Tensors,
)
from services.executor.backends.threads import fewest
from services.executor.config import ModelSettings

Device = Literal["cpu", "cuda", "auto"]

_log = structlog.get_logger(__name__)
# Bytes from which a model counts as large.
_LARGE = 8 << 20
# Fatal errors only: ONNX Runtime writes to stderr, not to our log; and a failed run raises an exception anyway.
_FATAL = 4
_CUDA = "CUDAExecutionProvider"
_NO_PROVIDER = "ONNX Runtime has no CUDA provider here; install onnxruntime-gpu, or set device: cpu"
_NO_GPU = "ONNX Runtime found no usable GPU; check the driver, or set device: cpu"
# Words in its messages if the device, not a row, is the reason.
_LOST = ("out of memory", "failed to allocate memory", "cuda failure", "cudnn failure", "cublas failure")


class OnnxRuntime:
    """One ONNX model.

    `threads`: threads of one run; 1: only the caller's thread; 0: measured with `largest` rows, as many as make it faster;
    `chosen` is called with the result. `device`: `cuda` requires a GPU, `auto` uses one if there is one.
    """

    def __init__(
        self,
        model: bytes,
        threads: int = 1,
        device: Device = "cpu",
        largest: int = 256,
        chosen: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._threads = threads
        self._device = device
        self._largest = largest
        self._chosen = chosen
        self._session: Any = None
        self._output_names: list[str] = []
        self._fixed_rows: int | None = None
        self._where = "cpu"
        # Runs in progress → when they began. Single operations of a dict are thread-safe.
        self._running: dict[Any, float] = {}

    @staticmethod
    def device(name: str) -> Device:
        """The device after the colon, as in `onnxruntime:cuda`. Raises BackendError."""
        for known in get_args(Device):
            if name == known:
                return cast("Device", known)
        raise BackendError(f"onnxruntime has no device {name!r}; choose {' or '.join(get_args(Device))}")

    @property
    def name(self) -> str:
        return "onnxruntime:cuda" if self._device == "cuda" else "onnxruntime"

    @property
    def capabilities(self) -> Capabilities:
        buckets = () if self._fixed_rows is None else (self._fixed_rows,)
        return Capabilities(
            self._where, True, self._fixed_rows, buckets, memory_bytes=len(self._model), threads=self._threads
        )

    def activate(self) -> None:
        providers = self._providers()
        session = self._made(self._threads or 1, providers)
        self._output_names = [o.name for o in session.get_outputs()]
        self._fixed_rows = _fixed_rows(session)
        self._where = "cuda:0" if _CUDA in session.get_providers() else "cpu"
        if self._device == "auto" and self._where == "cpu":
            why = _NO_GPU if _CUDA in providers else _NO_PROVIDER
            _log.warning("no GPU: the model runs on the CPU", why=why)
        if not self._threads and self._where == "cpu":
            session = self._measured(session, providers)
        self._session = session

    def signature(self) -> tuple[Sequence[TensorSpec | str], Sequence[TensorSpec | str]]:
        session = self._active()
        return [_spec(t) for t in session.get_inputs()], [_spec(t) for t in session.get_outputs()]

    def run(self, inputs: Tensors, deadline: float) -> Tensors:  # noqa: ARG002 - ONNX Runtime has no deadlines
        session = self._active()
        rows = len(next(iter(inputs.values())))
        if self._fixed_rows is not None and rows < self._fixed_rows:
            inputs = {name: _padded(array, self._fixed_rows) for name, array in inputs.items()}
        options = ort.RunOptions()
        self._running[options] = time.monotonic()
        try:
            outputs = session.run(self._output_names, inputs, options)
        except Exception as error:
            if any(sign in str(error).lower() for sign in _LOST):
                raise BackendLostError(_first_line(error)) from error
            raise
        finally:
            del self._running[options]
        return {
            name: array if len(array) == rows else array[:rows]
            for name, array in zip(self._output_names, outputs, strict=True)
        }

    def interrupt(self, started_before: float) -> None:
        for options, started in list(self._running.items()):
            if started < started_before:
                options.terminate = True

    def deactivate(self) -> None:
        self._session = None

    def _providers(self) -> list[str]:
        there = _CUDA in ort.get_available_providers()
        if self._device == "cuda" and not there:
            raise BackendError(_NO_PROVIDER)
        return (
            [_CUDA, "CPUExecutionProvider"] if there and self._device != "cpu" else ["CPUExecutionProvider"]
        )

    def _made(self, threads: int, providers: list[str]) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = True
        # A memory plan per batch size makes the runs of a small model 1 to 3 µs shorter. A large model only needs more
        # memory with it (open_nsfw at 4 rows: 44 MiB with, 25 without).
        options.enable_mem_pattern = len(self._model) < _LARGE
        options.log_severity_level = _FATAL
        # Between runs, spinning threads would take the cores that the gRPC server needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(self._model, options, providers=providers)
        except Exception as error:  # its exception classes share no base but Exception
            raise BackendError(
                f"ONNX Runtime can't load it ({_first_line(error)}); export it anew"
            ) from error
        if self._device == "cuda" and _CUDA not in session.get_providers():
            raise BackendError(_NO_GPU)
        return session

    def _measured(self, single: Any, providers: list[str]) -> Any:
        """The session with as many threads as make it faster."""
        specs = [_spec(t) for t in single.get_inputs()]
        rows = self._fixed_rows or self._largest
        if any(isinstance(s, str) or s.dtype is DType.BYTES or -1 in s.row_shape for s in specs):
            return single
        blank = {
            s.name: np.zeros((rows, *s.row_shape), s.dtype.numpy) for s in specs if isinstance(s, TensorSpec)
        }
        made = {1: single}

        def runner(threads: int) -> Callable[[], object]:
            session = made.setdefault(threads, single if threads == 1 else self._made(threads, providers))
            return lambda: session.run(self._output_names, blank)

        try:
            threads = fewest(runner, len(os.sched_getaffinity(0)))
        except Exception:  # noqa: BLE001 - a model that fails on blank rows is the warm-up's to report
            return single
        self._threads = threads
        self._chosen(threads)
        return made[threads]

    def _active(self) -> Any:
        if self._session is None:
            raise BackendError("the model is not active; call activate() first")
        return self._session


def _fixed_rows(session: Any) -> int | None:
    leading = {t.shape[0] for t in (*session.get_inputs(), *session.get_outputs()) if t.shape}
    fixed = {n for n in leading if isinstance(n, int)}
    if len(fixed) > 1:
        raise BackendError(f"its tensors have different numbers of rows: {sorted(fixed)}; export it with one")
    return fixed.pop() if fixed else None


def _spec(tensor: Any) -> TensorSpec | str:
    dtype = DTYPES.get(tensor.type)
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


def factory(_environment: Environment) -> BackendFactory:
    """Makes backends of ONNX Runtime. The argument is a device, see `OnnxRuntime.device`."""
    # Model → threads measured for its first version. Later versions are loaded while others serve: a bad time to measure.
    measured: dict[str, int] = {}

    def make(artifact: Artifact, settings: ModelSettings, argument: str, _progress: Progress) -> Backend:
        device = OnnxRuntime.device(argument) if argument else settings.device
        name = artifact.metadata.name
        threads = settings.threads or measured.get(name, 0)
        if threads:
            measured[name] = threads
        chosen = partial(measured.__setitem__, name)
        return OnnxRuntime(artifact.content, threads, device, settings.max_rows, chosen)

    return make
