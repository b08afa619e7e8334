"""Throughput at saturation: against a bare loop of the same runs, and with batching off; latency of a call by one caller."""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

from load.micro.executor.in_process import RUNS, bare_seconds, closed_loop, executor, inputs_of, newest, one
from services.executor.servicer import ExecutorServicer

# Always 512 rows in flight: two full runs. A batch of the router has the rows of up to 64 callers.
CASES = (
    ("flights_heavy", 256, 2),
    ("flights_heavy", 64, 8),
    ("flights_heavy", 16, 32),
    ("flights_light", 256, 2),
    ("flights_light", 64, 8),
)


async def overhead(models: Path, seconds: float) -> dict[str, float]:
    """Throughput at saturation against a bare loop at the batch size that the executor chose."""
    found = {}
    print("| model | rows a call | calls at once | rows/s | rows a run | bare loop, rows/s | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, rows, concurrency in CASES:
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
            found[f"{name} {rows}"] = ratio
            print(
                f"| {name} | {rows} | {concurrency} | {rate:.0f} | {size} | {plain:.0f} | {ratio:.3f} |",
                flush=True,
            )
    return found
