"""Throughput on a GPU: our backends against a bare loop over the same engine, and one slot against two.

usage: python -m tests.gpu.figures MODEL.onnx INPUT WIDTH    (an ONNX model of one float input of shape (rows, WIDTH))

Prints a Markdown table. Each figure is the median of five runs of two seconds.
"""

import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

from headrace.columns import DType
from headrace.repository import Artifact, Metadata, TensorSpec
from services.executor.backends.backend import Backend
from services.executor.backends.onnxruntime import OnnxRuntime
from services.executor.backends.tensorrt.backend import TensorRt
from services.executor.config import TensorRtSettings
from tests.gpu.machine import MODULE, no_cuda_provider, no_tensorrt

ROWS = (1, 8, 64, 256)
_SECONDS, _RUNS = 2.0, 5


def rate(run: Callable[[], object], rows: int, threads: int = 1) -> float:
    """Rows per second of `threads` callers in a closed loop."""

    def loop(_: int) -> int:
        end, done = time.perf_counter() + _SECONDS, 0
        while time.perf_counter() < end:
            run()
            done += 1
        return done

    run()
    found = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_RUNS):
            began = time.perf_counter()
            done = sum(pool.map(loop, range(threads)))
            found.append(done * rows / (time.perf_counter() - began))
    return statistics.median(found)


def bare_binding(content: bytes, feeds: dict[str, Any]) -> Callable[[], object]:
    """ONNX Runtime's CUDA provider with inputs and outputs bound, as little Python as possible."""
    session = ort.InferenceSession(content, providers=["CUDAExecutionProvider"])
    binding = session.io_binding()
    for name, values in feeds.items():
        binding.bind_cpu_input(name, values)
    for output in session.get_outputs():
        binding.bind_output(output.name)

    def run() -> object:
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    return run


@contextmanager
def active(backend: Backend) -> Iterator[Backend]:
    backend.activate()
    try:
        yield backend
    finally:
        backend.deactivate()


def _run(backend: Backend, feeds: dict[str, Any]) -> object:
    return backend.run(feeds, time.monotonic() + 60)


def artifact_of(content: bytes, name: str, width: int) -> Artifact:
    digest = hashlib.sha256(content).hexdigest()
    spec = (TensorSpec(name, DType.FLOAT32, (width,)),)
    return Artifact(Metadata("measured", "1", "tensorrt", digest, spec, spec), b"", content)


def main() -> None:
    content = Path(sys.argv[1]).read_bytes()
    name, width = sys.argv[2], int(sys.argv[3])
    artifact = artifact_of(content, name, width)
    print("| engine | rows | callers | rows/s |\n|---|--:|--:|--:|")
    for rows in ROWS:
        feeds = {name: np.random.default_rng(0).random((rows, width), np.float32)}

        def line(engine: str, run: Callable[[], object], threads: int = 1, rows: int = rows) -> None:
            print(f"| {engine} | {rows} | {threads} | {rate(run, rows, threads):.0f} |", flush=True)

        if not no_cuda_provider():
            line("CUDA provider, bare IOBinding loop", bare_binding(content, feeds))
            with active(OnnxRuntime(content, device="cuda")) as backend:
                line("CUDA provider, our backend", partial(_run, backend, feeds))
        if not no_tensorrt():
            settings = TensorRtSettings.model_validate({"module": MODULE})
            for slots in (1, 2):
                made = TensorRt(artifact, ROWS, slots, settings, lambda _: None)
                with active(made) as backend:
                    line(f"TensorRT, {slots} slots", partial(_run, backend, feeds), slots)


if __name__ == "__main__":
    main()
