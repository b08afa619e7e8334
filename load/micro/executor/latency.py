"""Latency of a call by one caller."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from load.micro.executor.in_process import bare_seconds, executor, inputs_of, newest, one


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
                # The reply to a caller in another process passes the event loop.
                await asyncio.sleep(0)
        times.sort()
        p50, p99 = times[len(times) // 2], times[int(0.99 * len(times))]
        plain = bare_seconds(artifact, 1, seconds / 3) * 1e6
        print(f"| {name} | {p50:.0f} | {p99:.0f} | {plain:.0f} | {p50 - plain:.0f} |", flush=True)
