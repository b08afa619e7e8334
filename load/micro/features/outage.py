"""The features service while its Redis is killed, stopped, slow, or replaced by something that answers garbage, under load.

Each fault lasts two seconds. The table says whether a call failed or took longer than its deadline, what the rows were
served from, and when after the fault's end every row came from the store again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc
import uvloop

from deploy.pipelines.flights.feature_store import create, materialize
from headrace.api.batch.v1 import batch_pb2
from headrace.api.features.v1 import features_pb2 as pb
from load.micro.features.clients import GrpcClient, packed_message
from load.micro.features.comparison import features_service, keys_of, ready
from load.systems.fault_proxy import FaultProxy
from load.systems.redis_store import Redis, redis_server

FAULT_S = 2.0
SOURCES = {1: "present", 2: "not found", 3: "outside", 4: "stale", 5: "default"}
Fault = Callable[["FaultProxy", Redis], None]


@dataclass
class StoreCalls:
    """Calls so far: when each ended (monotonic), how long it took, and the sources of its rows."""

    calls: list[tuple[float, float, set[int]]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)


def _is_source(column: batch_pb2.Column) -> bool:
    """Columns of one type may lie end to end in one, under several names."""
    return (column.name or column.names[0]).startswith("@source/")


async def load(
    client: GrpcClient, messages: list[bytes], seen: StoreCalls, deadline_s: float, stop: asyncio.Event
) -> None:
    """A closed loop that reads what it gets."""
    while not stop.is_set():
        began = time.monotonic()
        try:
            reply = pb.GetFeaturesResponse.FromString(
                await client.packed_raw(random.choice(messages), deadline_s)
            )
        except grpc.aio.AioRpcError as error:
            seen.failed[error.code().name] += 1
            continue
        now = time.monotonic()
        sources = {s for c in reply.batch.columns if _is_source(c) for s in c.data}
        if not sources:
            raise RuntimeError("a reply that does not say where its rows come from")
        seen.calls.append((now, now - began, sources))
        await asyncio.sleep(0.002)


async def walk(name: str, begin: Fault, end: Fault, proxy: FaultProxy, redis: Redis, seen: StoreCalls) -> str:
    """One fault: a row of the table."""
    seen.calls.clear()
    seen.failed.clear()
    begin(proxy, redis)
    await asyncio.sleep(FAULT_S)
    during = list(seen.calls)
    ended = time.monotonic()
    end(proxy, redis)
    deadline = ended + 20
    while time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        late = [when for when, _, sources in seen.calls if when > ended and sources & {4, 5}]
        if seen.calls and time.monotonic() - max([ended, *late]) > 1.0:
            break
    recovery = max([ended, *late]) - ended
    served = Counter(SOURCES[s] for _, _, sources in during for s in sources)
    told = ", ".join(f"{source} {count}" for source, count in served.most_common())
    longest = max(took for _, took, _ in seen.calls) * 1e3
    return f"| {name} | {len(during)} | {dict(seen.failed) or 0} | {longest:.0f} | {told} | {recovery:.2f} |"


def _switch(mode: str) -> Fault:
    return lambda proxy, _redis: proxy.switch(mode)


def _send(number: int) -> Fault:
    return lambda _proxy, redis: redis.signal(number)


async def measure(
    arguments: argparse.Namespace, folder: Path, repo: Path, ports: tuple[int, int], redis: Redis
) -> None:
    """All faults, one after the other."""
    proxy = FaultProxy(ports[0])
    keys = keys_of(arguments.home / "data", 4, random.Random(3))
    messages = [packed_message(next(keys)) for _ in range(200)]

    faults = [
        ("killed (SIGKILL)", _send(signal.SIGKILL), lambda _proxy, redis: redis.start()),
        ("stopped (SIGSTOP)", _send(signal.SIGSTOP), _send(signal.SIGCONT)),
        ("unreachable", _switch("closed"), _switch("pass")),
        ("slow by 200 ms", _switch("slow"), _switch("pass")),
        ("garbage", _switch("garbage"), _switch("pass")),
    ]
    async with (
        proxy.serving(ports[1]),
        features_service(folder, repo, False) as socket,
        GrpcClient(socket) as client,
    ):
        await ready(client.packed, messages[0])
        for message in messages:
            await client.packed(message)
        seen, stop = StoreCalls(), asyncio.Event()
        loops = [
            asyncio.create_task(load(client, messages, seen, arguments.deadline, stop))
            for _ in range(arguments.concurrency)
        ]
        print(
            "| fault | calls | failed | longest ms | rows from | normal after s |\n|---|--:|--:|--:|---|--:|"
        )
        for name, begin, end in faults:
            print(await walk(name, begin, end, proxy, redis, seen), flush=True)
        stop.set()
        await asyncio.gather(*loops)


def run(options: argparse.Namespace) -> None:
    """`features-outage`: loads the store, breaks it, prints."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as redis:
        repo = Path(name) / "repo"
        store = create(repo, options.home / "data", f"127.0.0.1:{redis.port}")
        materialize(store, datetime.now(UTC))
        port, front = redis.port, redis.port + 1000
        configuration = repo / "feature_store.yaml"
        configuration.write_text(configuration.read_text().replace(str(port), str(front)))
        uvloop.run(measure(options, Path(name), repo, (port, front), redis))
