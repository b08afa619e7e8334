"""What every backend must do, on every backend that can run here; the others are skipped by name."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from headrace.hop.config import CalleeSettings, Telemetry
from headrace.hop.definition import Runtime
from headrace.hop.process.telemetry import Telemetry as Telling
from headrace.hop.transport.in_process import LocalServers
from headrace.repository import Repository
from services.executor.backends.backend import Backend, BackendError
from services.executor.backends.onnxruntime import OnnxRuntime
from services.executor.backends.remote import Remote
from services.executor.backends.servers import Servers
from services.executor.backends.tensorrt.backend import TensorRt
from services.executor.backends.threads import fewest
from services.executor.config import RemoteServer, TensorRtSettings
from tests.gpu.machine import MODULE, no_cuda_provider, no_tensorrt
from tests.services.executor.executor_models import X, Y, doubling, put
from tests.services.executor.remote_servers import oip_server
from tests.services.executor.triton import absent, triton

BACKENDS = [
    "onnxruntime",
    "onnxruntime, threads measured",
    "remote",
    pytest.param("remote, Triton", marks=pytest.mark.skipif(bool(absent()), reason=absent())),
    pytest.param(
        "onnxruntime, cuda", marks=pytest.mark.skipif(bool(no_cuda_provider()), reason=no_cuda_provider())
    ),
    pytest.param("tensorrt", marks=pytest.mark.skipif(bool(no_tensorrt()), reason=no_tensorrt())),
]


@contextmanager
def far_server(kind: str, models: Path, tmp_path: Path) -> Iterator[str]:
    if kind == "remote, Triton":
        (tmp_path / "triton").mkdir()
        with triton(tmp_path / "triton") as target:
            yield target
    elif kind == "remote":
        with oip_server("double", models / "double/1/model.onnx") as server:
            yield server.target
    else:
        yield "127.0.0.1:1"


@pytest.fixture(params=BACKENDS)
async def backend(request: Any, models: Path, tmp_path: Path) -> AsyncIterator[Backend]:
    """An inactive backend of the doubling model, to be called from threads."""
    put(models)
    artifact = Repository(models).read("double", "1")
    telemetry = Telling("test", Telemetry(log_level="warning", trace_ratio=0))
    runtime = Runtime("test", telemetry, LocalServers(telemetry))
    with far_server(request.param, models, tmp_path) as target:
        servers = Servers(
            {"far": RemoteServer(client=CalleeSettings(target=target))}, runtime, asyncio.get_running_loop()
        )
        if request.param.startswith("remote"):
            made: Backend = Remote.of(artifact, "far", servers)
        elif request.param == "tensorrt":
            made = TensorRt(
                artifact, (1, 4, 16), 2, TensorRtSettings.model_validate({"module": MODULE}), print
            )
        elif request.param == "onnxruntime, cuda":
            made = OnnxRuntime(artifact.content, device="cuda")
        else:
            made = OnnxRuntime(artifact.content, threads=0 if "measured" in request.param else 1)
        try:
            yield made
        finally:
            await asyncio.to_thread(made.deactivate)
            await servers.close()
            await telemetry.close()


def xs(*values: float) -> dict[str, Any]:
    return {"x": np.repeat(np.array(values, np.float32)[:, None], 3, axis=1)}


def soon() -> float:
    return time.monotonic() + 20


async def test_it_says_what_the_artifact_says(backend: Backend) -> None:
    await asyncio.to_thread(backend.activate)
    inputs, outputs = backend.signature()
    assert list(inputs) == [X]
    assert list(outputs) == [Y]
    assert backend.capabilities.device
    assert backend.name


@pytest.mark.parametrize("rows", [1, 3, 16])
async def test_it_answers_each_row_in_its_place(backend: Backend, rows: int) -> None:
    await asyncio.to_thread(backend.activate)
    given = xs(*(float(i) for i in range(rows)))
    found = await asyncio.to_thread(backend.run, given, soon())
    np.testing.assert_array_equal(found["y"], 2 * given["x"])


async def test_an_answer_stays_what_it_is_while_others_are_made(backend: Backend) -> None:
    await asyncio.to_thread(backend.activate)
    first = await asyncio.to_thread(backend.run, xs(1.0, 2.0), soon())
    await asyncio.to_thread(backend.run, xs(7.0, 8.0), soon())
    np.testing.assert_array_equal(first["y"], xs(2.0, 4.0)["x"])


async def test_threads_do_not_mix_up_their_answers(backend: Backend) -> None:
    await asyncio.to_thread(backend.activate)
    if not backend.capabilities.concurrent_runs:
        pytest.skip(f"{backend.name} does one run at a time")
    with ThreadPoolExecutor(4) as pool:
        loop = asyncio.get_running_loop()
        runs = [loop.run_in_executor(pool, backend.run, xs(float(i), -float(i)), soon()) for i in range(40)]
        found = await asyncio.gather(*runs)
    for i, outputs in enumerate(found):
        np.testing.assert_array_equal(outputs["y"], xs(2.0 * i, -2.0 * i)["x"])


async def test_it_can_be_given_up_and_taken_up_again(backend: Backend) -> None:
    for _ in range(2):
        await asyncio.to_thread(backend.activate)
        found = await asyncio.to_thread(backend.run, xs(1.0), soon())
        np.testing.assert_array_equal(found["y"], xs(2.0)["x"])
        await asyncio.to_thread(backend.deactivate)
    with pytest.raises(BackendError):
        await asyncio.to_thread(backend.run, xs(1.0), soon())


async def test_interrupting_nothing_harms_nothing(backend: Backend) -> None:
    await asyncio.to_thread(backend.activate)
    backend.interrupt(math.inf)
    found = await asyncio.to_thread(backend.run, xs(1.0), soon())
    np.testing.assert_array_equal(found["y"], xs(2.0)["x"])


def test_cuda_is_not_taken_for_granted() -> None:
    import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("there is a CUDA provider here: tests/gpu has its tests")
    with pytest.raises(BackendError, match="no CUDA provider here"):
        OnnxRuntime(doubling(), device="cuda").activate()
    backend = OnnxRuntime(doubling(), device="auto")
    with capture_logs() as logs:
        backend.activate()
    assert backend.capabilities.device == "cpu"
    [told] = logs
    assert told["event"] == "no GPU: the model runs on the CPU"
    assert "onnxruntime-gpu" in told["why"]


@pytest.mark.parametrize(
    ("seconds", "cores", "chosen"),
    [
        ({1: 0.001, 2: 0.0001}, 8, 1),
        ({1: 0.100, 2: 0.050, 4: 0.026, 8: 0.024}, 8, 4),
        ({1: 0.100, 2: 0.050}, 2, 2),
        ({1: 0.100, 2: 0.090}, 2, 1),
    ],
)
def test_threads_are_taken_as_long_as_they_help(seconds: dict[int, float], cores: int, chosen: int) -> None:
    now = [0.0]
    lock = threading.Lock()

    def runner(threads: int) -> Callable[[], None]:
        def run() -> None:
            with lock:
                now[0] += seconds[threads]

        return run

    assert fewest(runner, cores, lambda: now[0], lambda _: None) == chosen
