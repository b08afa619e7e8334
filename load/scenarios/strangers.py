"""What clients without a credential can do to those with one: their latency, and the ingress's memory.

The strangers send at a steady rate, in every protocol and encoding, bodies of at most 64 KiB that inflate to whatever they like.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import itertools
import multiprocessing
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from load.generator.flight_requests import infer_message, rows
from load.systems.headrace import Running, Setup, headrace
from load.systems.processes import OtherWork

PREDICT = "/headrace.api.inference.v1.InferenceService/Predict"
OIP = "/inference.GRPCInferenceService/"
_BODY_BYTES = 64 * 1024
# Path and content type.
ENTRANCES: Sequence[tuple[str, str]] = (
    ("/v2/models/flights/infer", "application/json"),
    ("/v2/repository/index", "application/json"),
    (PREDICT, "application/json"),
    (PREDICT, "application/proto"),
    (PREDICT, "application/grpc-web+proto"),
    (PREDICT, "application/grpc-web+json"),
    (OIP + "ModelInfer", "application/grpc-web"),
    (OIP + "ModelInfer", "application/proto"),
    (OIP + "ModelStreamInfer", "application/connect+proto"),
    ("/grpc.health.v1.Health/Check", "application/json"),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "application/connect+proto"),
    ("/v2/health/ready", "application/json"),
)
# Paths of calls by grpcio.
_GRPC_PATHS = (PREDICT, OIP + "ModelInfer", OIP + "ModelMetadata", OIP + "ServerMetadata")


def run(options: argparse.Namespace) -> None:
    """`strangers`."""
    with headrace(Setup(options.home, options.shape, cpus=options.servers)) as running:
        asyncio.run(_measured(running, options))


async def _measured(running: Running, options: argparse.Namespace) -> None:
    door = running.services["ingress"]
    others = OtherWork(running.pids)
    caller = GoodCaller(running)
    await caller.during(options.warm_s)
    print(
        f"{options.shape}: {options.requests} requests at {options.rate:g}/s without a credential", flush=True
    )
    quiet = await caller.during(options.quiet_s)
    before = _rss(door)
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    stranger = context.Process(target=_attack, args=(running.target, options.rate, options.requests, answers))
    stranger.start()
    peak, attacked = before, []
    while stranger.is_alive() and answers.empty():
        attacked += await caller.during(1.0)
        peak = max(peak, _rss(door))
    said: Counter[str] = await asyncio.to_thread(answers.get)
    stranger.join()
    after = await caller.during(30.0)
    left = _rss(door)
    await caller.close()
    print("| | answers | p50 ms | p99 ms | the door's memory, MiB |\n|---|--:|--:|--:|--:|")
    for name, took, memory in (
        ("before", quiet, before),
        ("meanwhile", attacked, peak),
        ("30 s later", after, left),
    ):
        p50, p99 = np.percentile(np.array(took) * 1000, [50, 99])
        print(f"| {name} | {len(took)} | {p50:.1f} | {p99:.1f} | {memory / 2**20:.0f} |")
    print(f"failed of the good caller's: {caller.failed}; others' cores: {others.cores():.2f}")
    print(
        "the strangers were told: " + ", ".join(f"{what} × {count}" for what, count in said.most_common(12))
    )


class GoodCaller:
    """Asks at 50 a second by gRPC, whatever happens; counts time from when a request was due."""

    def __init__(self, running: Running, rate: float = 50.0) -> None:
        self._channel = grpc.aio.insecure_channel(running.target)  # noqa: TID251 - a client from outside
        self._call: Any = self._channel.unary_unary(OIP + "ModelInfer")
        [key] = running.keys.values()
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._requests = itertools.cycle(
            [infer_message("flights", row) for row in rows(running.setup.home, 500)]
        )
        self._rate = rate
        self.failed: Counter[str] = Counter()

    async def during(self, seconds: float) -> list[float]:
        """Seconds that each answer took."""
        began, took, tasks = time.monotonic(), list[float](), []

        async def one(due: float) -> None:
            try:
                await self._call(next(self._requests), metadata=self._metadata, timeout=10)
            except grpc.aio.AioRpcError as error:
                self.failed[error.code().name] += 1
            took.append(time.monotonic() - due)

        for i in range(int(seconds * self._rate)):
            due = began + i / self._rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tasks.append(asyncio.create_task(one(due)))
        await asyncio.gather(*tasks)
        return took

    async def close(self) -> None:
        await self._channel.close()


def _rss(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


# The strangers, in a process of their own.


def _attack(target: str, rate: float, requests: int, answers: Any) -> None:
    answers.put(asyncio.run(Strangers(target).send(rate, requests)))


class Strangers:
    """Sends requests without a valid credential at a constant rate."""

    def __init__(self, target: str, seed: int = 1) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._random = random.Random(seed)
        self._bodies = _bodies(self._random)
        self.said: Counter[str] = Counter()

    async def send(self, rate: float, requests: int) -> Counter[str]:
        """What was answered, and how often."""
        began, tasks = time.monotonic(), set[asyncio.Task[None]]()
        async with grpc.aio.insecure_channel(f"{self._host}:{self._port}") as channel:  # noqa: TID251 - as above
            for i in range(requests):
                await asyncio.sleep(max(began + i / rate - time.monotonic(), 0))
                send = self._by_grpc(channel) if i % 4 == 0 else self._by_http()
                task = asyncio.create_task(send)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        return self.said

    def _credential(self) -> str:
        return self._random.choice(("", "hr_made_up", f"{self._random.getrandbits(64):016x}" * 400))

    async def _by_grpc(self, channel: grpc.aio.Channel) -> None:
        _, body = self._random.choice(self._bodies)
        credential = self._credential()
        metadata = [("authorization", f"Bearer {credential}")] if credential else []
        compression = self._random.choice((grpc.Compression.NoCompression, grpc.Compression.Gzip))
        call: Any = channel.unary_unary(self._random.choice(_GRPC_PATHS))
        try:
            await call(body[:_BODY_BYTES], metadata=metadata, timeout=20, compression=compression)
            self.said["OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.said[error.code().name] += 1

    async def _by_http(self) -> None:
        path, content_type = self._random.choice(ENTRANCES)
        encoding, body = self._random.choice(self._bodies)
        framed = "grpc" in content_type or "connect+" in content_type
        if framed:
            body = struct.pack(">BI", int(bool(encoding)), len(body)) + body
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {content_type}\r\n"
        head += f"content-length: {len(body)}\r\n"
        if encoding:
            name = (
                "grpc-encoding"
                if "grpc" in content_type
                else "connect-content-encoding"
                if framed
                else "content-encoding"
            )
            head += f"{name}: {encoding}\r\n"
        if credential := self._credential():
            head += f"x-api-key: {credential}\r\n"
        with suppress(OSError):
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(head.encode() + b"\r\n" + body)
                    line = await reader.readline()
                    self.said[line.split(b" ")[1].decode() if b" " in line else "closed"] += 1
                finally:
                    writer.close()


def _bodies(random_: random.Random) -> list[tuple[str, bytes]]:
    """(encoding, body): compressed ones inflate to up to 64 MB, of which each is at most 64 KiB."""
    plain = (
        bytes(60_000_000),
        b"\x22\x00" * 8_000_000,
        b'{"rows": [' + b"{}," * 5_000_000 + b"{}]}",
        b"[" * 16_000_000,
        b'{"inputs": [' + b"0," * 8_000_000 + b"0]}",
    )
    found = [("", random_.randbytes(size)) for size in (0, 10, 1000, _BODY_BYTES)]
    found += [("", body[:_BODY_BYTES]) for body in plain]
    compress: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
    )
    found += [(name, by(body)) for name, by in compress for body in plain]
    return [(name, body) for name, body in found if len(body) <= _BODY_BYTES]
