"""Pictures through the ingress in a closed loop: rate, latency and memory.

Needs a running home and the samples of scikit-image.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import quantiles
from typing import Any

import grpc

from headrace.oip import open_inference_pb2 as oip
from load.systems.headrace import status

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def run(options: argparse.Namespace) -> None:
    """`moderation`: prints a table row per concurrency."""
    found = status(options.home)
    print(
        "| c | pictures/s | p50 ms | p99 ms | preprocessing MiB | executor MiB |\n|---|---|---|---|---|---|"
    )
    for concurrency in (1, 4, 16):
        times, took = asyncio.run(_drive(found, concurrency, options.seconds))
        cuts = quantiles(times, n=100)
        memory = [_memory_mib(found["services"][name]["pid"]) for name in ("preprocessing", "executor")]
        rate = len(times) / took
        print(
            f"| {concurrency} | {rate:.1f} | {cuts[49] * 1e3:.0f} | {cuts[98] * 1e3:.0f} | {memory[0]} | {memory[1]} |"
        )


async def _drive(found: dict[str, Any], concurrency: int, seconds: float) -> tuple[list[float], float]:
    requests = [_request(name) for name in _PICTURES]
    times: list[float] = []
    began = time.perf_counter()

    async def ask(call: Any, which: int) -> None:
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            await call(requests[which % len(requests)], metadata=metadata, timeout=30)
            times.append(time.perf_counter() - start)
            which += 1

    metadata = (("authorization", f"Bearer {found['demo_key']}"),)
    async with grpc.aio.insecure_channel(found["endpoints"]["grpc"]) as channel:  # noqa: TID251 - a client of the ingress
        call = channel.unary_unary(
            _INFER,
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        await asyncio.gather(*(ask(call, i) for i in range(concurrency)))
    return times, time.perf_counter() - began


def _request(name: str) -> oip.ModelInferRequest:
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    data = (Path(spec.origin).parent / "data" / name).read_bytes()
    request = oip.ModelInferRequest(model_name="moderation")
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(data)) + data)
    return request


def _memory_mib(pid: int) -> int:
    """Of a process, at its greatest."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
