"""The executor within one process: what it costs over a bare session, what batching brings, what a swap disturbs.

usage: python -m load.executor [--models FOLDER] [--seconds 3] [--only overhead,latency,batching,swap]

`--models`: a repository with flights_light and flights_heavy (`make up` prepares one). No sockets: the other services
and gRPC have their own figures. Prints Markdown tables; each figure is the median of three runs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types
from onnx import TensorProto, helper

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import Batch, Column, DType, Rows, encode
from headrace.hop import config as hop
from headrace.hop.call import LOCAL_PEER, Call
from headrace.hop.definition import Runtime
from headrace.hop.local import LocalServers
from headrace.hop.telemetry import Telemetry
from headrace.repository import Artifact, Repository, TensorSpec, publish
from services.executor.config import ExecutorConfig
from services.executor.servicer import ExecutorServicer
from services.executor.wiring import build

ROOT = Path(__file__).parents[1]
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


def flipped(content: bytes, output: str) -> bytes:
    """The same model with 1 − p for each probability: as much work, and other answers."""
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        node.output[:] = ["unflipped" if name == output else name for name in node.output]
        node.input[:] = ["unflipped" if name == output else name for name in node.input]
    model.graph.initializer.append(helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]))
    model.graph.node.append(helper.make_node("Sub", ["one", "unflipped"], [output]))
    changed: bytes = model.SerializeToString()
    return changed


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


async def overhead(models: Path, seconds: float) -> None:
    """Throughput at saturation against a bare loop at the batch size that the executor chose."""
    print("| model | rows a call | calls at once | rows/s | rows a run | bare loop, rows/s | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, rows, concurrency in (
        ("flights_heavy", 64, 8),
        ("flights_heavy", 16, 32),
        ("flights_light", 64, 8),
    ):
        artifact = newest(models, name)
        async with executor(models, load=[f"{name}:{artifact.metadata.version}"]) as servicer:
            raw = inputs_of(artifact).request(name, rows)
            await closed_loop(partial(one, servicer, raw), concurrency, 0.3)
            ratios = []
            for _ in range(RUNS):
                sizes: list[int] = []

                async def call(
                    s: ExecutorServicer = servicer, r: bytes = raw, sizes: list[int] = sizes
                ) -> None:
                    reply = await one(s, r)
                    sizes.append(reply.batch.timings[1].row_count)

                rate = rows * await closed_loop(call, concurrency, seconds)
                size = round(statistics.median(sizes))
                plain = size / bare_seconds(artifact, size, seconds / 3)
                ratios.append((rate / plain, rate, size, plain))
            ratio, rate, size, plain = sorted(ratios)[RUNS // 2]
            print(
                f"| {name} | {rows} | {concurrency} | {rate:.0f} | {size} | {plain:.0f} | {ratio:.3f} |",
                flush=True,
            )


async def latency(models: Path, seconds: float) -> None:
    """One row, one caller: what the executor adds to the run itself."""
    print("| model | p50 µs of a call | p99 µs | bare run µs | added at p50 µs |\n|---|--:|--:|--:|--:|")
    for name in ("flights_light", "flights_heavy"):
        artifact = newest(models, name)
        async with executor(models, load=[f"{name}:{artifact.metadata.version}"]) as servicer:
            raw = inputs_of(artifact).request(name, 1)
            times, end = [], time.perf_counter() + seconds
            while (began := time.perf_counter()) < end:
                await one(servicer, raw)
                times.append((time.perf_counter() - began) * 1e6)
                # A caller that lives elsewhere comes back through the event loop.
                await asyncio.sleep(0)
        times.sort()
        p50, p99 = times[len(times) // 2], times[int(0.99 * len(times))]
        plain = bare_seconds(artifact, 1, seconds / 3) * 1e6
        print(f"| {name} | {p50:.0f} | {p99:.0f} | {plain:.0f} | {p50 - plain:.0f} |", flush=True)


async def batching(models: Path, seconds: float) -> None:
    """64 callers of one row each, batching on and off in turns."""
    print("| model | callers | batching | calls/s | × off |\n|---|--:|---|--:|--:|")
    name = "flights_heavy"
    artifact = newest(models, name)
    raw = inputs_of(artifact).request(name, 1)
    rates: dict[str, list[float]] = {"off": [], "on": []}
    for _ in range(RUNS):
        for kind, most in (("off", 1), ("on", 256)):
            settings = {"load": [f"{name}:{artifact.metadata.version}"], "defaults": {"max_rows": most}}
            async with executor(models, **settings) as servicer:
                call = partial(one, servicer, raw)
                await closed_loop(call, 64, 0.3)
                rates[kind].append(await closed_loop(call, 64, seconds))
    off = statistics.median(rates["off"])
    for kind in rates:
        rate = statistics.median(rates[kind])
        print(f"| {name} | 64 | {kind} | {rate:.0f} | {rate / off:.2f} |", flush=True)


@dataclass
class Seen:
    """Replies of an open loop: version and output of each, looked at when the loop is over."""

    latencies: list[float] = field(default_factory=list)
    replies: list[tuple[str, bytes]] = field(default_factory=list)
    failed: int = 0

    def by_version(self) -> dict[str, int]:
        return dict(sorted(Counter(version for version, _ in self.replies).items()))

    def mismatched(self, answers: dict[str, Any]) -> int:
        """Replies that are not what the version they name answers."""
        wrong = 0
        for version, data in self.replies:
            right = answers[version]
            wrong += not np.allclose(np.frombuffer(data, right.dtype), right.ravel(), atol=1e-4)
        return wrong


async def swap(models: Path, seconds: float) -> None:
    """Versions change, back and forth, under an open loop at three quarters of what the executor can do."""
    artifact = newest(models, "flights_heavy")
    about, inputs = artifact.metadata, inputs_of(artifact)
    [output] = about.outputs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = {"1": artifact.content, "2": flipped(artifact.content, output.name)}
        for version, content in contents.items():
            publish(folder, "swapped", version, content, inputs=about.inputs, outputs=about.outputs)
        one_way = np.asarray(bare(artifact)({inputs.name: inputs.array(64)})[0])
        answers = {"1": one_way, "2": 1 - one_way}
        async with executor(folder, load=["swapped:1"]) as servicer:
            await _swap_under_load(servicer, inputs.request("swapped", 64), answers, seconds)


async def _swap_under_load(
    servicer: ExecutorServicer, raw: bytes, answers: dict[str, Any], seconds: float
) -> None:
    # With the same client's work as under load: it shares the process.
    capacity = await closed_loop(lambda: asyncio.create_task(_call(servicer, raw, Seen(), 0.0)), 32, seconds)
    rate = 0.75 * capacity
    steady = await _open_loop(servicer, raw, rate, seconds)
    changes = 0

    async def change() -> None:
        nonlocal changes
        for new, old in itertools.cycle((("2", "1"), ("1", "2"))):
            await servicer.LoadModel(pb.LoadModelRequest(model="swapped", version=new), CALL)
            await servicer.UnloadModel(pb.UnloadModelRequest(model="swapped", version=old), CALL)
            changes += 1
            await asyncio.sleep(0.2)

    changing = asyncio.create_task(change())
    seen = await _open_loop(servicer, raw, rate, 2 * seconds)
    changing.cancel()
    limit = 2 * _p99(steady.latencies)
    slow = sum(latency > limit for latency in seen.latencies)
    print(
        "| load | calls/s | swaps | calls | by version | failed | of another version "
        "| slower than 2 × p99 | p99 ms before / during |"
    )
    print("|--:|--:|--:|--:|---|--:|--:|--:|--:|")
    print(
        f"| {rate / capacity:.0%} | {rate:.0f} | {changes} | {len(seen.latencies)} | {seen.by_version()} | {seen.failed} "
        f"| {seen.mismatched(answers)} | {slow} | {_p99(steady.latencies) * 1e3:.2f} / {_p99(seen.latencies) * 1e3:.2f} |"
    )


def _p99(latencies: list[float]) -> float:
    ordered = sorted(latencies)
    return ordered[int(0.99 * len(ordered))]


async def _call(servicer: ExecutorServicer, raw: bytes, seen: Seen, due: float) -> None:
    try:
        reply = await one(servicer, raw)
    except Exception:  # noqa: BLE001 - whatever it is, the call has failed
        seen.failed += 1
        return
    seen.latencies.append(time.perf_counter() - due)
    seen.failed += bool(reply.batch.errors)
    seen.replies.append((reply.version, reply.batch.columns[0].data))


async def _open_loop(servicer: ExecutorServicer, raw: bytes, rate: float, seconds: float) -> Seen:
    """Calls at a steady rate, whatever becomes of them; latency counts from when a call was due."""
    seen, calls = Seen(), set()
    began = time.perf_counter()
    for i in range(int(rate * seconds)):
        due = began + i / rate
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        elif i % 16 == 0:
            await asyncio.sleep(0)
        task = asyncio.create_task(_call(servicer, raw, seen, due))
        calls.add(task)
        task.add_done_callback(calls.discard)
    while calls:
        await asyncio.wait(calls)
    return seen


PARTS = {"overhead": overhead, "latency": latency, "batching": batching, "swap": swap}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=ROOT / ".headrace" / "models")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    import uvloop

    for name in options.only.split(","):
        print(f"\n**{name}**\n")
        uvloop.run(PARTS[name](options.models, options.seconds))


if __name__ == "__main__":
    main()
