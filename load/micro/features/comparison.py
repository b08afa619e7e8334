"""The features service against `feast serve`: one Redis, one registry and the same keys, all servers up at once, in turns.

Keys are uniform over all entities of a prepared home. The feature server is tuned: no access log, a worker that is not recycled,
references instead of a feature service by name. Ours answers Feast's own RPC, without a cache and with the usual one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import uvloop
import yaml

from deploy.pipelines.flights.feature_repo import KEYS, SERVICE, VIEWS
from deploy.pipelines.flights.feature_store import create, materialize
from load.systems.processes import CpuMeter, OtherWork, children_of, turn
from load.systems.redis_store import redis_server
from services.features.feast.messages import RepeatedValue, Value, serving

STOCK = "feast serve"
USUAL = "Feast's RPC, cache"
_MESSAGES = 400
_START_S = 60.0
Keys = dict[str, list[str]]
Call = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Point:
    """One system for a moment: requests a second, p50 and p99 (µs), the server's CPU (µs a request), cores used by others."""

    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float
    others: float


@dataclass(frozen=True, slots=True)
class System:
    """A running server: how to call it, the form of its requests, its process."""

    call: Call
    message: Callable[[Keys], bytes]
    pid: int


def against_stock(
    home: Path, rows: int, runs: int, seconds: float, concurrency: int = 16
) -> dict[str, list[Point]]:
    """A point a run of each system, by its name. Loads the home's tables into a Redis of its own."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as redis:
        repo = Path(name) / "repo"
        materialize(create(repo, home / "data", f"127.0.0.1:{redis.port}"), datetime.now(UTC))
        found = _keys(home / "data", rows, random.Random(3))
        keys = [next(found) for _ in range(_MESSAGES)]
        return uvloop.run(_in_turns(repo, redis.pid, keys, runs, seconds, concurrency))


def ratio(found: dict[str, list[Point]], name: str) -> float:
    """The requests a second of a system by those of `feast serve`: the median of the runs."""
    return statistics.median(a.rate / b.rate for a, b in zip(found[name], found[STOCK], strict=True))


async def _in_turns(
    repo: Path, store: int, keys: Sequence[Keys], runs: int, seconds: float, concurrency: int
) -> dict[str, list[Point]]:
    async with AsyncExitStack() as stack:
        systems = {STOCK: await stack.enter_async_context(_stock(repo))}
        for name, cache_s in (("Feast's RPC, no cache", 0.0), (USUAL, 5.0)):
            systems[name] = await stack.enter_async_context(_ours(repo, cache_s))
        messages = {name: [system.message(one) for one in keys] for name, system in systems.items()}
        for name, system in systems.items():
            await _ready(system.call, messages[name][0])
            await _drive(system, store, messages[name], concurrency, seconds / 2)
        found: dict[str, list[Point]] = {name: [] for name in systems}
        for _ in range(runs):
            for name, system in systems.items():
                with turn():
                    found[name].append(await _drive(system, store, messages[name], concurrency, seconds))
        return found


async def _drive(
    system: System, store: int, messages: Sequence[bytes], concurrency: int, seconds: float
) -> Point:
    """A closed loop. `store`: the process of Redis. Raises if a call fails or an answer is empty."""
    latencies: list[float] = []
    pids = children_of([system.pid])
    meter, others = CpuMeter(pids), OtherWork([*pids, store])
    began = time.monotonic()

    async def caller(place: int) -> None:
        while (sent := time.monotonic()) < began + seconds:
            if not await system.call(messages[place % len(messages)]):
                raise RuntimeError("an answer without content")
            latencies.append(time.monotonic() - sent)
            place += 1

    await asyncio.gather(*[caller(37 * number) for number in range(concurrency)])
    took, count = time.monotonic() - began, len(latencies)
    latencies.sort()
    p50, p99 = (latencies[int(count * share)] * 1e6 for share in (0.5, 0.99))
    return Point(count / took, p50, p99, meter.seconds() / count * 1e6, others.cores())


def _keys(data: Path, rows: int, dice: random.Random) -> Iterator[Keys]:
    tables = {view: pd.read_parquet(data / f"{view}.parquet", columns=VIEWS[view][0]) for view in VIEWS}
    tails = sorted({*tables["planes"]["tailnum"], *tables["tail_history"]["tailnum"]})
    routes = tables["route_history"].drop_duplicates().to_dict("records")
    while True:
        batch = [{**dice.choice(routes), "tailnum": dice.choice(tails)} for _ in range(rows)]
        yield {key: [row[key] for row in batch] for key in KEYS}


def _feast_message(keys: Keys) -> bytes:
    message = serving.GetOnlineFeaturesRequest(feature_service=SERVICE)
    for name, values in keys.items():
        message.entities[name].CopyFrom(RepeatedValue(val=[Value(string_val=v) for v in values]))
    data: bytes = message.SerializeToString()
    return data


def _http_request(keys: Keys) -> bytes:
    references = [f"{view}:{feature}" for view, (_, _, features) in VIEWS.items() for feature in features]
    body = json.dumps({"features": references, "entities": keys}).encode()
    head = "POST /get-online-features HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def _stock(repo: Path) -> AsyncIterator[System]:
    port = 17400 + random.randint(0, 900)
    command = [
        str(Path(sys.executable).parent / "feast"), "-c", str(repo), "serve", "-h", "127.0.0.1", "-p", str(port),
        "--no-access-log", "-w", "1", "--max-requests", "0", "-r", "60", "--keep-alive-timeout", "60",
    ]  # fmt: skip
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(request: bytes) -> bytes:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:200])
        size = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(size)
        idle.append((reader, writer))
        return body

    async with _process(command) as pid:
        yield System(post, _http_request, pid)
        for _, writer in idle:
            writer.close()


@asynccontextmanager
async def _ours(repo: Path, cache_s: float) -> AsyncIterator[System]:
    socket = repo.parent / f"features-{cache_s:g}"  # a folder of this user alone
    config = socket.with_suffix(".yaml")
    server = {"listen": f"unix:{socket}", "reflection": False}
    config.write_text(yaml.safe_dump({"repo": str(repo), "server": server, "cache_s": cache_s}))
    async with (
        _process([sys.executable, "-O", "-m", "services.features", "--config", str(config)]) as pid,
        grpc.aio.insecure_channel(f"unix:{socket}") as channel,  # noqa: TID251 - a client to measure with
    ):
        call: Any = channel.unary_unary("/feast.serving.ServingService/GetOnlineFeatures")
        yield System(lambda message: call(message, timeout=10), _feast_message, pid)


@asynccontextmanager
async def _process(command: Sequence[str]) -> AsyncIterator[int]:
    # Feast's import sets this here; a service that is started with it keeps its metrics in files.
    environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}  # noqa: TID251 - as above
    quiet = asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(*command, env=environment, stdout=quiet, stderr=quiet)
    try:
        yield child.pid
    finally:
        child.terminate()
        await child.wait()


async def _ready(call: Call, message: bytes) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            await call(message)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def run(options: argparse.Namespace) -> dict[str, float]:
    """`features`: measures and prints. Returns how many times as many requests as stock Feast the service answers as it is
    set by default, by rows, and `others`."""
    figures = {"others": 0.0}
    print(
        "| rows | system | req/s | × feast serve | p50 µs | p99 µs | server CPU µs | CPU ÷ | others' cores |"
    )
    print("|--:|---|--:|--:|--:|--:|--:|--:|--:|")
    for rows in options.rows:
        found = against_stock(options.home, rows, options.runs, options.seconds, options.concurrency)
        stock_us = statistics.median(point.cpu_us for point in found[STOCK])
        for name, points in found.items():
            rate, p50, p99, cpu = (
                statistics.median(getattr(point, field) for point in points)
                for field in ("rate", "p50_us", "p99_us", "cpu_us")
            )
            print(
                f"| {rows} | {name} | {rate:.0f} | {ratio(found, name):.1f} | {p50:.0f} | {p99:.0f} | {cpu:.0f} "
                f"| {stock_us / cpu:.1f} | {max(point.others for point in points):.2f} |",
                flush=True,
            )
        figures[f"rows {rows}"] = ratio(found, USUAL)
        figures["others"] = max(figures["others"], *[p.others for points in found.values() for p in points])
    return figures
