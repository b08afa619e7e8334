"""What only a GPU shows: overlap, graphs, padding, plans kept, and the move from GPU to CPU.

The contract that all backends share is in tests/services/executor/test_executor_backends.py, and runs there on the
GPU's backends, too, where there is one.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.columns import decode
from headrace.hop.testing import served
from headrace.repository import Repository
from services.executor.backends.backend import BackendLostError
from services.executor.backends.tensorrt.backend import TensorRt
from services.executor.config import TensorRtSettings
from services.executor.wiring import SERVICE
from tests.gpu.machine import MODULE, no_cuda_provider, no_tensorrt
from tests.services.executor.executor_caller import Caller, batch, ys
from tests.services.executor.executor_models import put

needs_tensorrt = pytest.mark.skipif(bool(no_tensorrt()), reason=f"TensorRT: {no_tensorrt()}")
needs_cuda_provider = pytest.mark.skipif(
    bool(no_cuda_provider()), reason=f"CUDA provider: {no_cuda_provider()}"
)


def made(models: Path, cache: Path | None = None, sizes: tuple[int, ...] = (1, 8, 64)) -> TensorRt:
    artifact = Repository(models).read("double", "1")
    settings = TensorRtSettings.model_validate({"module": MODULE, "cache": cache})
    return TensorRt(artifact, sizes, 2, settings, lambda _: None)


@pytest.fixture
def engine(models: Path) -> Iterator[TensorRt]:
    put(models)
    backend = made(models)
    backend.activate()
    yield backend
    backend.deactivate()


def xs(rows: int) -> dict[str, Any]:
    return {"x": np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)}


@needs_tensorrt
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 63, 64])
def test_padded_sizes_answer_their_rows_alone(engine: TensorRt, rows: int) -> None:
    poison = {"x": np.full((64, 3), np.nan, np.float32)}
    engine.run(poison, time.monotonic() + 10)
    found = engine.run(xs(rows), time.monotonic() + 10)
    np.testing.assert_array_equal(found["y"], 2 * xs(rows)["x"])


@needs_tensorrt
def test_slots_do_not_mix_their_batches_up(engine: TensorRt) -> None:
    def run(i: int) -> None:
        given = {"x": np.full((1 + i % 64, 3), i, np.float32)}
        found = engine.run(given, time.monotonic() + 10)
        np.testing.assert_array_equal(found["y"], 2 * given["x"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(500)))


@needs_tensorrt
def test_small_sizes_are_graphs(engine: TensorRt) -> None:
    for slot in engine._slots:
        assert set(slot._graphs) == {1, 8}


@needs_tensorrt
def test_a_kept_plan_is_not_built_again(models: Path, tmp_path: Path) -> None:
    put(models)
    first, second = made(models, tmp_path / "plans"), made(models, tmp_path / "plans")
    for backend in (first, second):
        told: list[str] = []
        backend._tell = told.append
        backend.activate()
        assert any("building" in line for line in told) == (backend is first)
        backend.deactivate()


@needs_tensorrt
def test_memory_that_is_not_there_is_a_loss_and_no_crash(engine: TensorRt) -> None:
    gpu = engine._gpu
    assert gpu is not None
    with pytest.raises(BackendLostError, match="GPU 0"), gpu.current():
        gpu.memory(1 << 50)
    found = engine.run(xs(1), time.monotonic() + 10)
    np.testing.assert_array_equal(found["y"], 2 * xs(1)["x"])


@needs_tensorrt
async def test_a_lost_gpu_moves_the_model_to_the_cpu(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is played: a driver can't be made to lose its device on demand. What follows is real."""
    put(models)
    settings = {
        "models": models,
        "defaults": {"backends": ["tensorrt", "onnxruntime"]},
        "tensorrt": {"module": MODULE},
        "probe_s": 0.1,
    }
    async with served(SERVICE, settings) as harness:
        caller = Caller(harness)
        assert (await caller.raw(batch(1.0))).backend == "tensorrt"

        def lost(*_: object) -> None:
            raise BackendLostError("GPU 0: played")

        with monkeypatch.context() as patch:
            patch.setattr(TensorRt, "run", lost)
            patch.setattr(TensorRt, "activate", lost)
            reply = await caller.raw(batch(1.0))
            assert (reply.backend, reply.standby, ys(decode(reply.batch))) == ("onnxruntime", True, [2.0])
        end = time.monotonic() + 60
        while (await caller.raw(batch(1.0))).standby:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)


@needs_cuda_provider
async def test_the_cuda_provider_agrees_with_the_cpu(models: Path) -> None:
    put(models)
    async with served(SERVICE, {"models": models, "defaults": {"device": "cuda"}}) as harness:
        caller = Caller(harness)
        assert ys(await caller(batch(1.0, 2.0))) == [2.0, 4.0]
        [listed] = await caller.models()
        assert listed.device == "cuda:0"
