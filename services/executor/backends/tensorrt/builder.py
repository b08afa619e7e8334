"""Builds a TensorRT plan from an ONNX model: profile, timing cache, progress, cancel. `tensorrt_rtx` needs no GPU for it.

Import it only after `api.choose`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.executor.backends.backend import BackendError, Progress
from services.executor.backends.tensorrt.api import is_rtx, trt

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """`rows`: batch sizes of the engine, ascending. `optimization`: 0 (fast to build) to 5 (fast to run)."""

    rows: tuple[int, ...]
    workspace_bytes: int = 1 << 30
    optimization: int = 3


@dataclass(frozen=True, slots=True)
class Built:
    """A serialized engine, and the timings that the builder measured."""

    plan: bytes
    timings: bytes


class Log(trt.ILogger):  # type: ignore[misc, unused-ignore]  # untyped without the stub
    """The log of TensorRT: its warnings go to our log; its errors are kept, to say why something failed."""

    def __init__(self) -> None:
        # Without this the process crashes at the first message.
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, on its own threads."""
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(msg)
        elif severity == trt.ILogger.Severity.WARNING:
            _log.warning("TensorRT", says=msg)

    def why(self) -> str:
        """The last errors, for a message."""
        return "; ".join(self.errors[-3:]) or "it does not say why"


class ProgressMonitor(trt.IProgressMonitor):  # type: ignore[misc, unused-ignore]  # untyped without the stub
    """Reports the progress of a build; ends it when `cancelled` is set."""

    def __init__(self, tell: Progress, cancelled: threading.Event) -> None:
        # Without this the process crashes at the first callback.
        trt.IProgressMonitor.__init__(self)
        self._tell = tell
        self._cancelled = cancelled
        self._steps: dict[str, int] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002 - TensorRT's form
        self._steps[phase_name] = num_steps

    def step_complete(self, phase_name: str, step: int) -> bool:
        self._tell(f"building: {phase_name}, step {step + 1} of {self._steps.get(phase_name, 0)}")
        return not self._cancelled.is_set()

    def phase_finish(self, phase_name: str) -> None:
        self._steps.pop(phase_name, None)


def build(onnx: bytes, options: Options, timings: bytes, tell: Progress, cancelled: threading.Event) -> Built:
    """The plan of a model whose inputs have shape (rows, …). Takes seconds to minutes.

    Raises BackendError: not a model, an unknown operator, inputs with an open row shape, or cancelled.
    """
    log = Log()
    try:
        builder = trt.Builder(log)
    except TypeError as error:
        # This is what its binding raises without a usable driver.
        raise BackendError(f"TensorRT can't build here ({log.why()}); check GPU and driver") from error
    # From TensorRT 11 on, networks are always strongly typed: the ONNX model itself decides on half precision.
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        errors = [_described(parser.get_error(i)) for i in range(parser.num_errors)]
        raise BackendError(f"TensorRT can't read the model ({'; '.join(errors[:3])}); export it anew")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.optimization
    config.progress_monitor = ProgressMonitor(tell, cancelled)
    cache = None if is_rtx() else _timing_cache(config, timings)
    _add_profile(builder, config, network, options.rows)
    plan = builder.build_serialized_network(network, config)
    if cancelled.is_set():
        raise BackendError("the build was cancelled; load the model again to build it")
    if plan is None:
        raise BackendError(f"TensorRT can't build the model ({log.why()}); simplify it, or use onnxruntime")
    return Built(bytes(plan), b"" if cache is None else bytes(cache.serialize()))


def _described(error: trt.ParserError) -> str:
    operator = error.node_operator()
    return f"operator {operator}: {error.desc()}" if operator else error.desc()


def _timing_cache(config: trt.IBuilderConfig, timings: bytes) -> trt.ITimingCache:
    """The timings of earlier builds; empty if they are of another device or version."""
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _add_profile(
    builder: trt.Builder, config: trt.IBuilderConfig, network: trt.INetworkDefinition, rows: Sequence[int]
) -> None:
    """Adds one profile for all sizes, so that no run has to switch; it is tuned for the middle size."""
    least, middle, most = 1, rows[len(rows) // 2], rows[-1]
    profile = builder.create_optimization_profile()
    open_rows = False
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shape = tuple(tensor.shape)
        if -1 in shape[1:]:
            raise BackendError(
                f"input {tensor.name} has open dimensions {list(shape)}; export it with fixed rows' shapes"
            )
        if shape[0] == -1:
            open_rows = True
            tail = shape[1:]
            profile.set_shape(tensor.name, (least, *tail), (middle, *tail), (most, *tail))
    if open_rows and config.add_optimization_profile(profile) < 0:
        raise BackendError(f"TensorRT does not take the sizes {list(rows)}; correct `gpu_rows`")
