"""`hop`: what a call between two processes costs by hop's client and server, on a stream of theirs and as an RPC.

Both ends have all their layers; the server's handler does nothing. CPU of both processes, in µs per call.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from headrace import hop
from headrace.api.postprocessing.v1 import postprocessing_pb2 as api
from headrace.hop import config
from headrace.hop.client import settings as rules
from headrace.hop.client.dial import Client, UnaryCall
from load.systems.processes import cpu_seconds, turn

_FORMAT = hop.unary(
    api.DESCRIPTOR, "PostprocessingService", "Format", api.FormatRequest, api.FormatResponse, idempotent=True
)
_WAYS = {"RPC": False, "stream": True}


class _Servicer:
    async def Format(self, _request: api.FormatRequest, _call: hop.Call) -> api.FormatResponse:
        return api.FormatResponse()


@asynccontextmanager
async def _build(
    _settings: config.ServiceSettings, _runtime: hop.Runtime
) -> AsyncIterator[Sequence[hop.Service]]:
    yield [hop.Service(api.DESCRIPTOR.services_by_name["PostprocessingService"], _Servicer())]


SERVICE = hop.Definition("nothing", config.ServiceSettings, _build)


def run(options: argparse.Namespace) -> None:
    """Prints medians by concurrency and way, the ways taking turns."""
    print("| c | way | calls/s | p50 µs | client CPU µs | server CPU µs | both, of the RPC's |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    with _server() as (target, pid):
        for concurrency in options.conc:
            taken: dict[str, list[tuple[float, ...]]] = {way: [] for way in _WAYS}
            for _ in range(options.runs):
                for way, exchange in _WAYS.items():
                    with turn():
                        taken[way].append(asyncio.run(_measured(target, pid, concurrency, exchange)))
            base = 0.0
            for way, runs in taken.items():
                rate, p50, mine, its = (statistics.median(column) for column in zip(*runs, strict=True))
                base = base or mine + its
                print(
                    f"| {concurrency} | {way} | {rate:.0f} | {p50:.0f} | {mine:.0f} | {its:.0f} | {(mine + its) / base:.2f} |"
                )


async def _measured(
    target: str, pid: int, concurrency: int, exchange: bool, seconds: float = 1.5
) -> tuple[float, ...]:
    # No limit that the load would first have to raise.
    wide = rules.LimiterRules(initial=512, minimum=512)
    client = Client("nothing", rules.ClientRules(target, exchange=exchange, limiter=wide))
    try:
        call = client.unary(_FORMAT)
        await _load(call, concurrency, 0.3)
        mine, its, began = time.process_time(), cpu_seconds([pid]), time.monotonic()
        took = await _load(call, concurrency, seconds)
        elapsed, count = time.monotonic() - began, len(took)
        mine, its = time.process_time() - mine, cpu_seconds([pid]) - its
    finally:
        await client.close()
    return count / elapsed, statistics.median(took) * 1e6, mine / count * 1e6, its / count * 1e6


async def _load(
    call: UnaryCall[api.FormatRequest, api.FormatResponse], concurrency: int, seconds: float
) -> list[float]:
    ends, took, request = time.monotonic() + seconds, list[float](), api.FormatRequest()

    async def one() -> None:
        while (began := time.monotonic()) < ends:
            await call(request, deadline=began + 5)
            took.append(time.monotonic() - began)

    await asyncio.gather(*(one() for _ in range(concurrency)))
    return took


@contextmanager
def _server() -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        socket, settings = Path(folder) / "socket", Path(folder) / "settings.yaml"
        settings.write_text(
            f"server: {{listen: 'unix:{socket}', drain_notice_s: 0}}\ntelemetry: {{log_level: warning}}\n"
        )
        command = [sys.executable, "-m", "load.micro.hop_calls", "--config", str(settings)]
        with subprocess.Popen(command) as process:
            try:
                ends = time.monotonic() + 30
                while not socket.exists():
                    if process.poll() is not None or time.monotonic() > ends:
                        raise SystemExit("the server does not start; it says why above")
                    time.sleep(0.02)
                yield f"unix:{socket}", process.pid
            finally:
                process.terminate()


if __name__ == "__main__":
    hop.run(SERVICE)
