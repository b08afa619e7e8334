"""What a version swap disturbs: calls while versions are changed back and forth."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.hop.errors import Fault
from headrace.repository import publish
from load.micro.executor.in_process import CALL, bare, closed_loop, executor, inputs_of, newest, one
from services.executor.servicer import ExecutorServicer

ROUNDS = 5
LOAD = 0.75
_ROWS = 64
_PAUSE_S = 0.2
_HEADS = (
    "calls/s",
    "swaps",
    "calls",
    "by version",
    "failed",
    "of another version",
    "slower than 2 × p99",
    "the same without swaps",
    "p99 ms before / without / with",
)


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


@dataclass
class LoopReplies:
    """Replies of an open loop: version and output of each, looked at when the loop is over."""

    latencies: list[float] = field(default_factory=list)
    replies: list[tuple[str, bytes]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def p99(self) -> float:
        ordered = sorted(self.latencies)
        return ordered[int(0.99 * len(ordered))]

    def slower_than(self, limit: float) -> int:
        return sum(latency > limit for latency in self.latencies)

    def by_version(self) -> Counter[str]:
        return Counter(version for version, _ in self.replies)

    def mismatched(self, answers: dict[str, Any]) -> int:
        """Replies that are not what the version they name answers."""
        wrong = 0
        for version, data in self.replies:
            right = answers[version]
            wrong += not np.allclose(np.frombuffer(data, right.dtype), right.ravel(), atol=1e-4)
        return wrong


@dataclass
class Tested:
    """The rounds of a measurement, added up."""

    rates: list[float] = field(default_factory=list)
    swaps: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    failures_without: Counter[str] = field(default_factory=Counter)
    mismatched: int = 0
    slow: int = 0
    slow_without: int = 0
    p99: list[tuple[float, float, float]] = field(default_factory=list)

    def row(self) -> str:
        median = [1e3 * sorted(times)[len(times) // 2] for times in zip(*self.p99, strict=True)]
        cells = (
            f"{sorted(self.rates)[len(self.rates) // 2]:.0f}",
            self.swaps,
            self.versions.total(),
            dict(sorted(self.versions.items())),
            dict(self.failures) or 0,
            self.mismatched,
            self.slow,
            f"{self.slow_without} ({dict(self.failures_without) or 0} failed)",
            " / ".join(f"{time:.2f}" for time in median),
        )
        return " | ".join(map(str, cells))


async def swap(models: Path, seconds: float) -> dict[str, float]:
    """Versions change under an open loop at three quarters of what the executor can do.

    In each round what it can do is measured anew, for others may take the cores meanwhile; and the loop goes on three
    times: the first says what is slow, the second how often that happens by itself, the third is disturbed.
    """
    artifact = newest(models, "flights_heavy")
    about, inputs = artifact.metadata, inputs_of(artifact)
    [output] = about.outputs
    print(f"| {' | '.join(_HEADS)} |\n|{'--:|' * len(_HEADS)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = {"1": artifact.content, "2": flipped(artifact.content, output.name)}
        for version, content in contents.items():
            publish(folder, "swapped", version, content, inputs=about.inputs, outputs=about.outputs)
        one_way = np.asarray(bare(artifact)({inputs.name: inputs.array(_ROWS)})[0])
        answers, tested = {"1": one_way, "2": 1 - one_way}, Tested()
        async with executor(folder, load=["swapped:1"]) as servicer:
            for _ in range(ROUNDS):
                await _round(servicer, inputs.request("swapped", _ROWS), answers, seconds, tested)
    print(f"| {tested.row()} |")
    return {"swap failed": tested.failures.total(), "swap mismatched": tested.mismatched}


async def _round(
    servicer: ExecutorServicer, raw: bytes, answers: dict[str, Any], seconds: float, tested: Tested
) -> None:
    # With the same client's work as under load: it shares the process.
    capacity = await closed_loop(
        lambda: asyncio.create_task(_call(servicer, raw, LoopReplies(), 0.0)), 32, 1.0
    )
    rate = LOAD * capacity
    before = await _open_loop(servicer, raw, rate, seconds)
    without = await _open_loop(servicer, raw, rate, seconds)
    async with _swapping(servicer, tested):
        seen = await _open_loop(servicer, raw, rate, seconds)
    limit = 2 * before.p99
    tested.rates.append(rate)
    tested.versions += seen.by_version()
    tested.failures += seen.failures
    tested.failures_without += before.failures + without.failures
    tested.mismatched += seen.mismatched(answers)
    tested.slow += seen.slower_than(limit)
    tested.slow_without += without.slower_than(limit)
    tested.p99.append((before.p99, without.p99, seen.p99))


@asynccontextmanager
async def _swapping(servicer: ExecutorServicer, tested: Tested) -> AsyncIterator[None]:
    """Changes versions while it is entered; at the end version 1 alone serves."""
    over = asyncio.Event()

    async def to(new: str, old: str) -> None:
        await servicer.LoadModel(pb.LoadModelRequest(model="swapped", version=new), CALL)
        await servicer.UnloadModel(pb.UnloadModelRequest(model="swapped", version=old), CALL)
        tested.swaps += 1

    async def change() -> None:
        for new, old in itertools.cycle((("2", "1"), ("1", "2"))):
            if over.is_set() and new == "2":
                return
            await to(new, old)
            await asyncio.sleep(_PAUSE_S)

    changing = asyncio.create_task(change())
    try:
        yield
    finally:
        over.set()
        await changing


async def _call(servicer: ExecutorServicer, raw: bytes, seen: LoopReplies, due: float) -> None:
    try:
        reply = await one(servicer, raw)
    except Fault as fault:
        seen.failures[fault.code.name] += 1
        return
    seen.latencies.append(time.perf_counter() - due)
    if reply.batch.errors:
        seen.failures["rows"] += 1
    seen.replies.append((reply.version, reply.batch.columns[0].data))


async def _open_loop(servicer: ExecutorServicer, raw: bytes, rate: float, seconds: float) -> LoopReplies:
    """Calls at a steady rate, whatever becomes of them; latency counts from when a call was due."""
    seen, calls = LoopReplies(), set()
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
