"""The GPU for the TensorRT backend: pycuda for context, memory, streams and events; cuda-bindings for graphs.

Import it only where TensorRT runs. pycuda can't capture graphs; cuda-bindings uses the same primary context and handles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.executor.backends.backend import BackendError, BackendLostError

# CU_STREAM_NON_BLOCKING: does not wait for the default stream, which other code in the process may use.
_NON_BLOCKING = 1


def device_count() -> int:
    """Number of usable GPUs. Call it before anything else: without a GPU, TensorRT may return objects that crash."""
    try:
        from cuda.bindings import runtime  # type: ignore[import-untyped, import-not-found, unused-ignore]  # no types
    except ImportError as error:
        raise BackendError(
            f"cuda-bindings can't be imported ({error}); pip install 'headrace[gpu]'"
        ) from error
    status, count = runtime.cudaGetDeviceCount()
    return int(count) if int(status) == 0 else 0


class Gpu:
    """The primary context of one GPU. Use the GPU only inside `current()`."""

    def __init__(self, ordinal: int = 0) -> None:
        if device_count() <= ordinal:
            raise BackendError(
                f"there is no GPU {ordinal} with a working driver here; let onnxruntime stand by"
            )
        try:
            import pycuda.driver as cuda  # type: ignore[import-not-found, unused-ignore]  # of the gpu extra
        except ImportError as error:
            raise BackendError(f"pycuda can't be imported ({error}); pip install 'headrace[gpu]'") from error
        cuda.init()
        self.cuda = cuda
        self.ordinal = ordinal
        self._device = cuda.Device(ordinal)
        self._context = self._device.retain_primary_context()

    @property
    def name(self) -> str:
        """Product name and compute capability: a plan is built for these."""
        major, minor = self._device.compute_capability()
        return f"{self._device.name()} sm_{major}{minor}"

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes the context current on this thread. Errors of the GPU become BackendLostError."""
        self._context.push()
        try:
            yield
        except (self.cuda.Error, MemoryError) as error:
            raise BackendLostError(f"GPU {self.ordinal}: {error}") from error
        finally:
            self.cuda.Context.pop()

    def stream(self) -> Any:
        return self.cuda.Stream(_NON_BLOCKING)

    def event(self) -> Any:
        """An event that threads sleep for: they must not take the cores of the gRPC server."""
        flags = self.cuda.event_flags
        return self.cuda.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        """Pinned host memory: the GPU copies from and to it directly."""
        array: NDArray[np.generic] = self.cuda.pagelocked_empty(shape, dtype)
        return array

    def memory(self, size: int) -> Any:
        """Device memory of `size` bytes; freed with the object."""
        return self.cuda.mem_alloc(max(size, 1))

    def close(self) -> None:
        self._context.detach()


class Graph:
    """A CUDA graph: work that is captured on a stream and launched as one unit."""

    def __init__(self, stream: int, work: Callable[[], None]) -> None:
        """Captures `work`. Raises BackendError if a part of it can't be captured."""
        from cuda.bindings import runtime

        self._runtime = runtime
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(runtime.cudaStreamBeginCapture(stream, mode))
        try:
            work()
        finally:
            status, graph = runtime.cudaStreamEndCapture(stream)
        if int(status) != 0:
            # Clears the error: otherwise every later call would report it.
            runtime.cudaGetLastError()
            raise BackendError(f"the run can't be captured in a graph ({status!r}); it runs without")
        self._executable = self._call(runtime.cudaGraphInstantiate(graph, 0))
        runtime.cudaGraphDestroy(graph)

    def launch(self, stream: int) -> None:
        """Raises BackendLostError."""
        (status,) = self._runtime.cudaGraphLaunch(self._executable, stream)
        if int(status) != 0:
            raise BackendLostError(f"graph launch: {status!r}")

    def close(self) -> None:
        self._runtime.cudaGraphExecDestroy(self._executable)

    def _call(self, result: tuple[Any, ...]) -> Any:
        if int(result[0]) != 0:
            raise BackendError(f"CUDA graphs: {result[0]!r}")
        return result[1] if len(result) > 1 else None
