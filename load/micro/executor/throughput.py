"""Throughput at saturation: against a bare loop of the same runs, and with batching off; latency of a call by one caller."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

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


async def batching(models: Path, seconds: float) -> dict[str, float]:
    """64 callers of one row each, batching on and off in turns."""
    print("| model | callers | batching | calls/s | × off |\n|---|--:|---|--:|--:|")
    name = "flights_heavy"
    artifact = newest(models, name)
    raw = inputs_of(artifact).request(name, 1)
    rates: dict[str, list[float]] = {"off": [], "on": []}
    for _ in range(RUNS):
        for kind, most in (("off", 1), ("on", 256)):
            settings: dict[str, Any] = {
                "load": [f"{name}:{artifact.metadata.version}"],
                "defaults": {"max_rows": most},
            }
            async with executor(models, **settings) as servicer:
                call = partial(one, servicer, raw)
                await closed_loop(call, 64, 0.3)
                rates[kind].append(await closed_loop(call, 64, seconds))
    off = statistics.median(rates["off"])
    for kind in rates:
        rate = statistics.median(rates[kind])
        print(f"| {name} | 64 | {kind} | {rate:.0f} | {rate / off:.2f} |", flush=True)
    return {"batching": statistics.median(rates["on"]) / off}


async def latency(models: Path, seconds: float) -> dict[str, float]:
    """One row, one caller: what the executor adds to the run itself."""
    print("| model | p50 µs of a call | p99 µs | bare run µs | added at p50 µs |\n|---|--:|--:|--:|--:|")
    added = {}
    for name in ("flights_light", "flights_heavy"):
        artifact = newest(models, name)
        async with executor(models, load=[f"{name}:{artifact.metadata.version}"]) as servicer:
            raw = inputs_of(artifact).request(name, 1)
            times, end = [], time.perf_counter() + seconds
            while (began := time.perf_counter()) < end:
                await one(servicer, raw)
                times.append((time.perf_counter() - began) * 1e6)
                # The reply to a caller in another process passes the event loop.
                await asyncio.sleep(0)
        times.sort()
        p50, p99 = times[len(times) // 2], times[int(0.99 * len(times))]
        plain = bare_seconds(artifact, 1, seconds / 3) * 1e6
        print(f"| {name} | {p50:.0f} | {p99:.0f} | {plain:.0f} | {p50 - plain:.0f} |", flush=True)
        added[f"{name} added µs"] = p50 - plain
    return added
