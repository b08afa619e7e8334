"""Slots of a TensorRT engine. A slot runs one batch at a time, with its own stream, memory, and a graph per small size.

Two slots overlap: while one computes, the other copies. Import it only after `api.choose`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from services.executor.backends.backend import Array, BackendError, BackendLostError, Tensors
from services.executor.backends.tensorrt.api import trt
from services.executor.backends.tensorrt.device import Gpu, Graph

# For larger batches the computation takes longer than the launch: a graph would only take memory.
CAPTURED_ROWS = 32


class Tensor:
    """One input or output: its pinned and its device memory, large enough for the largest batch size."""

    def __init__(self, gpu: Gpu, engine: trt.ICudaEngine, name: str, rows: int) -> None:
        self.name = name
        self.is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        self.tail = tuple(engine.get_tensor_shape(name))[1:]
        dtype: np.dtype[np.generic] = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        self.host = gpu.pinned((rows, *self.tail), dtype)
        self.device = gpu.memory(self.host.nbytes)


class Slot:
    """Everything that one batch needs. `sizes`: batch sizes, ascending; `scratch`: bytes of device memory."""

    def __init__(self, gpu: Gpu, engine: trt.ICudaEngine, sizes: tuple[int, ...], scratch: int) -> None:
        self._gpu = gpu
        self._engine = engine
        self.stream = gpu.stream()
        self._done = gpu.event()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._tensors = [Tensor(gpu, engine, name, sizes[-1]) for name in names]
        # The contexts of a slot never run at the same time: they share the scratch memory.
        self._scratch = gpu.memory(scratch)
        self._scratch_size = scratch
        self._contexts = {rows: self._context(rows) for rows in sizes}
        self._graphs: dict[int, Graph] = {}
        for rows in sizes:
            self._enqueue(rows)
            self.stream.synchronize()
            if rows <= CAPTURED_ROWS:
                self._capture(rows)

    def run(self, inputs: Tensors, rows: int, padded: int) -> dict[str, Array]:
        """The outputs of `rows` rows, padded to `padded` rows for the run. Raises BackendLostError."""
        for tensor in self._tensors:
            if tensor.is_input:
                tensor.host[:rows] = inputs[tensor.name]
                # Values of an earlier batch must not be computed with: they may be NaN, or slow.
                tensor.host[rows:padded] = np.zeros((), tensor.host.dtype)
        graph = self._graphs.get(padded)
        if graph is not None:
            graph.launch(self.stream.handle)
        else:
            self._enqueue(padded)
        self._done.record(self.stream)
        self._done.synchronize()
        # Copies, because the next batch uses the same pinned memory.
        return {t.name: np.array(t.host[:rows]) for t in self._tensors if not t.is_input}

    def close(self) -> None:
        """Frees the slot after its stream has finished."""
        self.stream.synchronize()
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._contexts.clear()
        for tensor in self._tensors:
            tensor.device.free()
        self._scratch.free()

    def _context(self, rows: int) -> trt.IExecutionContext:
        """One context per size: a captured graph is bound to the shapes of its context."""
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise BackendError(
                "TensorRT has no memory left for an execution context; lower `instances` or `gpu_rows`"
            )
        context.set_device_memory(int(self._scratch), self._scratch_size)
        context.set_optimization_profile_async(0, self.stream.handle)
        for tensor in self._tensors:
            context.set_tensor_address(tensor.name, int(tensor.device))
            if tensor.is_input and not context.set_input_shape(tensor.name, (rows, *tensor.tail)):
                raise BackendError(f"the engine does not take {rows} rows; correct `gpu_rows`")
        if missing := context.infer_shapes():
            raise BackendError(f"the engine can't tell the shapes of {', '.join(missing)}")
        return context

    def _capture(self, rows: int) -> None:
        try:
            self._graphs[rows] = Graph(self.stream.handle, lambda: self._enqueue(rows))
        except BackendError:
            # Some layers can't be captured (they synchronise inside); the size runs without a graph.
            self._graphs.pop(rows, None)

    def _enqueue(self, rows: int) -> None:
        cuda: Any = self._gpu.cuda
        for tensor in self._tensors:
            if tensor.is_input:
                cuda.memcpy_htod_async(tensor.device, tensor.host[:rows], self.stream)
        if not self._contexts[rows].execute_async_v3(self.stream.handle):
            raise BackendLostError("TensorRT did not take the run")
        for tensor in self._tensors:
            if not tensor.is_input:
                cuda.memcpy_dtoh_async(tensor.host[:rows], tensor.device, self.stream)
