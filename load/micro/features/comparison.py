"""The features service against `feast serve`, on one Redis, one registry and one stream of requests, in one run.

`--home`: a prepared home, whose tables are loaded into a Redis of this run's own. Keys are uniform over all entities. The
feature server is tuned: no access log, a worker that is not recycled, references rather than a feature service by name.
"By hop": as the router calls, by hop's client, where calls that wait at the same time share a message.
"gRPC, empty handler": what an RPC costs with an answer of the same size before anything is done for it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import uvloop
import yaml

from deploy.pipelines.flights.feature_repo import KEYS, VIEWS
from deploy.pipelines.flights.feature_store import create, materialize
from load.micro.features.clients import (
    GrpcClient,
    HopClient,
    HttpClient,
    Keys,
    feast_json,
    feast_message,
    hop_batch,
    packed_message,
)
from load.systems.processes import CpuMeter, children_of, pss_mib
from load.systems.redis_store import redis_server

MESSAGES = 400
Call = Callable[[Any], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Point:
    """One system at one number of rows: requests per second, p50 and p99 (µs), the server's CPU (µs per request)."""

    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float


def keys_of(data: Path, rows: int, dice: random.Random) -> Iterator[Keys]:
    """Batches of keys, each uniform over the entities of its view."""
    tables = {view: pd.read_parquet(data / f"{view}.parquet", columns=VIEWS[view][0]) for view in VIEWS}
    tails = sorted({*tables["planes"]["tailnum"], *tables["tail_history"]["tailnum"]})
    routes = tables["route_history"].drop_duplicates().to_dict("records")
    while True:
        batch = [{**dice.choice(routes), "tailnum": dice.choice(tails)} for _ in range(rows)]
        yield {key: [row[key] for row in batch] for key in KEYS}


@asynccontextmanager
async def feast_serve(repo: Path) -> AsyncIterator[tuple[Call, int]]:
    """Feast's feature server: how to call it, and its process."""
    port = 17400 + random.randint(0, 900)
    command = [
        str(Path(sys.executable).parent / "feast"), "-c", str(repo), "serve", "-h", "127.0.0.1", "-p", str(port),
        "--no-access-log", "-w", "1", "--max-requests", "0", "-r", "60", "--keep-alive-timeout", "60",
    ]  # fmt: skip
    async with process(command):
        client = HttpClient(port)
        yield client.post, client.port
        client.close()


@asynccontextmanager
async def features_service(folder: Path, repo: Path, cache: bool) -> AsyncIterator[Path]:
    """Ours: the socket it listens on."""
    socket = folder / f"features-{cache}"
    config = folder / f"features-{cache}.yaml"
    settings = {
        "repo": str(repo),
        "server": {"listen": f"unix:{socket}", "reflection": False},
        "cache_s": 60.0 if cache else 0.0,
    }
    config.write_text(yaml.safe_dump(settings))
    async with process([sys.executable, "-O", "-m", "services.features", "--config", str(config)]):
        yield socket


@asynccontextmanager
async def floor(folder: Path, reply_bytes: int) -> AsyncIterator[Path]:
    """grpc.aio alone, with answers of this size: the socket it listens on."""
    socket = folder / f"floor-{reply_bytes}"
    async with process(
        [sys.executable, "-O", "-m", "load.micro.features.empty_handler", str(socket), str(reply_bytes)]
    ):
        yield socket


_RUNNING: list[int] = []


@asynccontextmanager
async def process(command: list[str]) -> AsyncIterator[None]:
    """A server while it is measured."""
    # Feast's import set it here; a service that is started with it keeps its metrics in files, which nobody else's does.
    environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}  # noqa: TID251 - as above
    child = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _RUNNING.append(child.pid)
    try:
        yield
    finally:
        _RUNNING.remove(child.pid)
        child.terminate()
        await child.wait()


async def ready(call: Call, message: Any) -> None:
    """Waits until the server answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await call(message)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def drive(call: Call, messages: list[Any], concurrency: int, seconds: float) -> Point:
    """A closed loop. Raises if a call fails or an answer is empty."""
    await ready(call, messages[0])
    for message in messages:
        await call(message)
    latencies: list[float] = []
    stop = time.monotonic() + seconds

    async def loop(number: int) -> None:
        place = number * 37
        while (began := time.monotonic()) < stop:
            if not await call(messages[place % len(messages)]):
                raise RuntimeError("an answer without content")
            latencies.append(time.monotonic() - began)
            place += 1

    meter = CpuMeter(children_of(_RUNNING))
    began = time.monotonic()
    await asyncio.gather(*[loop(i) for i in range(concurrency)])
    took, cpu = time.monotonic() - began, meter.seconds()
    latencies.sort()
    count = len(latencies)
    p50, p99 = latencies[count // 2] * 1e6, latencies[int(count * 0.99)] * 1e6
    return Point(count / took, p50, p99, cpu / count * 1e6)


async def measure(
    arguments: argparse.Namespace, folder: Path, repo: Path, rows: int
) -> dict[str, list[Point]]:
    """All systems at one number of rows, one after the other."""
    dice = random.Random(3)
    keys = keys_of(arguments.home / "data", rows, dice)
    batches = [next(keys) for _ in range(MESSAGES)]
    found: dict[str, list[Point]] = {}

    async def runs(name: str, call: Call, messages: list[Any]) -> None:
        concurrency = arguments.concurrency
        found[name] = [
            await drive(call, messages, concurrency, arguments.seconds) for _ in range(arguments.runs)
        ]

    async with feast_serve(repo) as (call, _):
        await runs("feast serve", call, [feast_json(b) for b in batches])
    packed = [packed_message(b) for b in batches]
    for cache in (False, True):
        async with features_service(folder, repo, cache) as socket:
            label = "cache" if cache else "no cache"
            async with GrpcClient(socket) as client, HopClient(socket) as hop:
                await runs(f"Feast's RPC, {label}", client.feast, [feast_message(b) for b in batches])
                await runs(f"packed RPC, {label}", client.packed, packed)
                await runs(f"packed by hop, {label}", hop.packed, [hop_batch(b) for b in batches])
                reply_bytes = await client.packed(packed[0])
                print(
                    f"<!-- features service, {label}, {rows} rows: {pss_mib(children_of(_RUNNING)):.0f} MiB -->",
                    flush=True,
                )
    async with floor(folder, reply_bytes) as socket, GrpcClient(socket) as client:
        await runs("gRPC, empty handler", client.packed, packed)
    return found


def table(found: dict[str, list[Point]], rows: int) -> Iterator[str]:
    """The results as Markdown, medians, ratios to the first."""
    feast = next(iter(found.values()))
    first, first_cpu = statistics.median(p.rate for p in feast), statistics.median(p.cpu_us for p in feast)
    for name, points in found.items():
        rate = statistics.median(p.rate for p in points)
        p50, p99 = statistics.median(p.p50_us for p in points), statistics.median(p.p99_us for p in points)
        cpu = statistics.median(p.cpu_us for p in points)
        yield (
            f"| {rows} | {name} | {rate:.0f} | {rate / first:.1f} | {p50:.0f} | {p99:.0f} | {cpu:.0f} "
            f"| {first_cpu / cpu:.1f} |"
        )


def run(options: argparse.Namespace) -> None:
    """`features`: loads the store, measures, prints."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as redis:
        folder = Path(name)
        repo = folder / "repo"
        store = create(repo, options.home / "data", f"127.0.0.1:{redis.port}")
        materialize(store, datetime.now(UTC))
        print(
            "| rows | system | req/s | × feast serve | p50 µs | p99 µs | server CPU µs/req | CPU ÷ |\n"
            "|--:|---|--:|--:|--:|--:|--:|--:|"
        )
        for rows in options.rows:
            for line in table(uvloop.run(measure(options, folder, repo, rows)), rows):
                print(line, flush=True)
