"""The executor in this process, the calls to it, and the bare session beside it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import Batch, Column, DType, Rows, encode
from headrace.hop import config as hop
from headrace.hop.call import LOCAL_PEER, Call
from headrace.hop.definition import Runtime
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.transport.in_process import LocalServers
from headrace.repository import Artifact, Repository, TensorSpec
from services.executor.config import ExecutorConfig
from services.executor.servicer import ExecutorServicer
from services.executor.wiring import build

RUNS = 3
CALL = Call("", LOCAL_PEER)
_FOREVER_S = 3600.0


@asynccontextmanager
async def executor(models: Path, **settings: Any) -> AsyncIterator[ExecutorServicer]:
    """The executor's servicer, ready."""
    telemetry = Telemetry("executor", hop.Telemetry(log_level="error", trace_ratio=0))
    given = {"server": {"listen": "local"}, "models": models, **settings}
    configured = ExecutorConfig.model_validate(given)
    async with build(configured, Runtime("executor", telemetry, LocalServers(telemetry))) as services:
        servicer = services[0].servicer
        assert isinstance(servicer, ExecutorServicer)
        yield servicer
    await telemetry.close()


@dataclass(frozen=True, slots=True)
class Inputs:
    """Random rows for a model's one input."""

    spec: TensorSpec

    @property
    def name(self) -> str:
        return self.spec.name

    def array(self, rows: int, seed: int = 0) -> Any:
        drawn = np.random.default_rng(seed).random((rows, *self.spec.row_shape), np.float32)
        # From 0 to 1 as numbers are, from 0 to 255 as bytes of pictures.
        return drawn if self.spec.dtype is DType.FLOAT32 else (drawn * 255).astype(self.spec.dtype.numpy)

    def request(self, model: str, rows: int, budget: float = _FOREVER_S) -> bytes:
        """A serialized ExecuteRequest, as a hop brings it."""
        context = Rows.one_request(rows, "r", "tenant", time.monotonic() + budget)
        batch = Batch.of(context, [Column.of(self.name, self.array(rows))])
        return pb.ExecuteRequest(model=model, batch=encode(batch)).SerializeToString()


def newest(models: Path, name: str) -> Artifact:
    repository = Repository(models)
    return repository.read(name, repository.versions(name)[-1])


def inputs_of(artifact: Artifact) -> Inputs:
    [spec] = artifact.metadata.inputs
    return Inputs(spec)


def bare(artifact: Artifact) -> Callable[[dict[str, Any]], list[Any]]:
    """The model's session as the executor makes it, without the executor."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(artifact.content, options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in artifact.metadata.outputs]

    def run(feeds: dict[str, Any]) -> list[Any]:
        outputs: list[Any] = session.run(names, feeds)
        return outputs

    return run


def bare_seconds(artifact: Artifact, rows: int, seconds: float) -> float:
    """Median time of a bare run."""
    run, inputs = bare(artifact), inputs_of(artifact)
    feeds = {inputs.name: inputs.array(rows)}
    times, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        run(feeds)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def one(servicer: ExecutorServicer, raw: bytes) -> pb.ExecuteResponse:
    """A call as hop makes it, parsing and serializing included."""
    reply = await servicer.Execute(pb.ExecuteRequest.FromString(raw), CALL)
    reply.SerializeToString()
    return reply


async def closed_loop(call: Callable[[], Awaitable[object]], concurrency: int, seconds: float) -> float:
    """Calls per second."""
    end, done = time.perf_counter() + seconds, 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return done / (time.perf_counter() - began)
