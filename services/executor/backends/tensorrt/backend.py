"""The TensorRT backend: finds or builds a plan (a built engine), and runs it in slots."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from headrace.columns import DType
from headrace.columns.column import of_numpy
from headrace.repository import Artifact, TensorSpec
from services.executor.backends.backend import (
    Backend,
    BackendError,
    BackendFactory,
    Capabilities,
    Environment,
    Progress,
    Tensors,
)
from services.executor.backends.tensorrt import api
from services.executor.backends.tensorrt.device import Gpu
from services.executor.backends.tensorrt.plans import PlanKey, Plans
from services.executor.config import ModelSettings, TensorRtSettings

if TYPE_CHECKING:
    import tensorrt as trt  # type: ignore[import-not-found, unused-ignore]  # typed where tests/gpu makes its stub

    from services.executor.backends.tensorrt.slots import Slot


class TensorRt:
    """One ONNX model on one GPU. `sizes`: batch sizes it is built for, ascending; `slots`: batches at the same time."""

    name = "tensorrt"

    def __init__(
        self,
        artifact: Artifact,
        sizes: tuple[int, ...],
        slots: int,
        settings: TensorRtSettings,
        tell: Progress,
    ) -> None:
        self._artifact = artifact
        self._sizes = sizes
        self._slot_count = slots
        self._settings = settings
        self._tell = tell
        self._cancelled = threading.Event()
        self._gpu: Gpu | None = None
        self._engine: trt.ICudaEngine | None = None
        self._free: SimpleQueue[Slot] = SimpleQueue()
        self._slots: list[Slot] = []
        self._bytes = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("cuda:0", True, self._sizes[-1], self._sizes, self._bytes, inline=False)

    def activate(self) -> None:
        self._cancelled.clear()
        api.choose(self._settings.module)
        gpu = self._gpu = Gpu()
        from services.executor.backends.tensorrt.builder import Log
        from services.executor.backends.tensorrt.slots import Slot

        with gpu.current():
            log = Log()
            runtime = api.trt.Runtime(log)
            # Our plans contain no code for the host: one that does is not ours.
            runtime.engine_host_code_allowed = False
            plan = self._plan(gpu)
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise BackendError(
                    f"TensorRT can't load the engine ({log.why()}); remove it from the plans' folder"
                )
            self._engine = engine
            self._fix_rows(engine)
            scratch = int(engine.device_memory_size_v2)
            self._tell("capturing graphs")
            for _ in range(self._slot_count):
                slot = Slot(gpu, engine, self._sizes, scratch)
                self._slots.append(slot)
                self._free.put(slot)
            self._bytes = len(plan) + self._slot_count * scratch

    def signature(self) -> tuple[Sequence[TensorSpec | str], Sequence[TensorSpec | str]]:
        engine = self._active()
        found: tuple[list[TensorSpec | str], list[TensorSpec | str]] = ([], [])
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            is_output = engine.get_tensor_mode(name) == api.trt.TensorIOMode.OUTPUT
            found[is_output].append(_spec(engine, name))
        return found

    def run(self, inputs: Tensors, deadline: float) -> Tensors:  # noqa: ARG002 - a GPU has no deadlines
        self._active()
        rows = len(next(iter(inputs.values())))
        padded = self._sizes[bisect_left(self._sizes, rows)]
        slot = self._free.get()
        try:
            assert self._gpu is not None
            with self._gpu.current():
                return slot.run(inputs, rows, padded)
        finally:
            self._free.put(slot)

    def interrupt(self, started_before: float) -> None:  # noqa: ARG002 - only a build can be ended
        self._cancelled.set()

    def deactivate(self) -> None:
        gpu, self._gpu, self._engine = self._gpu, None, None
        slots, self._slots, self._free = self._slots, [], SimpleQueue()
        if gpu is None:
            return
        with gpu.current():
            for slot in slots:
                slot.close()
        gpu.close()

    def _plan(self, gpu: Gpu) -> bytes:
        from services.executor.backends.tensorrt.builder import Options, build

        about, options = self._artifact.metadata, Options(self._sizes)
        key = PlanKey(about.name, about.sha256, gpu.name, api.version(), repr(options))
        plans = Plans(self._settings.cache)
        plan = plans.find(key)
        if plan is None:
            self._tell("building")
            built = build(self._artifact.content, options, plans.timings(key), self._tell, self._cancelled)
            plans.keep(key, built.plan, built.timings)
            plan = built.plan
        return plan

    def _fix_rows(self, engine: trt.ICudaEngine) -> None:
        """A model that was exported for a fixed number of rows runs only that number."""
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        leading = {next(iter(engine.get_tensor_shape(name)), 1) for name in names}
        if -1 not in leading:
            self._sizes = (int(min(leading)),)

    def _active(self) -> trt.ICudaEngine:
        if self._engine is None:
            raise BackendError("the model is not active; call activate() first")
        return self._engine


def _spec(engine: trt.ICudaEngine, name: str) -> TensorSpec | str:
    shape = tuple(engine.get_tensor_shape(name))
    try:
        dtype: DType = of_numpy(api.trt.nptype(engine.get_tensor_dtype(name))(0).dtype)
    except TypeError:
        return f"{name} is a {engine.get_tensor_dtype(name)}, which no column can carry"
    if not shape:
        return f"{name} has no batch dimension"
    return TensorSpec(name, dtype, tuple(int(n) for n in shape[1:]))


def factory(environment: Environment) -> BackendFactory:
    """Makes backends of TensorRT. It takes no argument."""

    def make(artifact: Artifact, settings: ModelSettings, _argument: str, progress: Progress) -> Backend:
        sizes, slots = settings.gpu_rows, settings.instances
        return TensorRt(artifact, sizes, slots, environment.config.tensorrt, progress)

    return make
