"""The first call after an executor is ready against the later ones: does a caller see a cold start?

usage: python -m load.first_call [--models FOLDER] [--starts 5] [--home HOME]

Each start is a process of its own, which loads one model, warms it up and settles its memory as a service does; then come
calls of one row. With `--home`, of a home that is up: each start is `headrace restart executor`, each call a prediction of
`flights` at the door, as a user sees it. Prints the medians over the starts, the worst start, and what a call takes
after a rest: a processor that has slept is slow for a while, so that the first call is to be held against that, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from pathlib import Path

from headrace.client import Headrace
from headrace.hop.process import grpc_core
from load.executor.serving import ROOT, executor, inputs_of, newest, one

_MODELS = ("flights_light", "flights_heavy", "open_nsfw")
_LATER = 60
# A processor that has slept is slow for a while, whatever it runs: what a call takes that comes after a rest.
_RESTS, _REST_S = 5, 0.5

Times = tuple[float, float, float]
"""Seconds of the first call, the median of those that follow each other, and of those after a rest."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=ROOT / ".headrace" / "models")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    print(
        "| model | first call µs | p50 of the later ones µs | ratio | worst start "
        f"| after {_REST_S} s of rest µs | ratio to that |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    if options.home is not None:
        _print("flights, at the door", [restarted(options.home) for _ in range(options.starts)])
        return
    # A process for each start: what the first has imported would be warm for the second.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        for name in _MODELS:
            found = processes.starmap(started, [(options.models, name)] * options.starts, chunksize=1)
            _print(name, found)


def _print(name: str, found: list[Times]) -> None:
    first, later, rested = (statistics.median(part) * 1e6 for part in zip(*found, strict=True))
    ratios = [a / b for a, b, _ in found]
    print(
        f"| {name} | {first:.0f} | {later:.0f} | {statistics.median(ratios):.2f} | {max(ratios):.2f} "
        f"| {rested:.0f} | {statistics.median(a / c for a, _, c in found):.2f} |",
        flush=True,
    )


def restarted(home: Path) -> Times:
    """Of predictions after a restart of the executor."""
    headrace = [str(Path(sys.executable).with_name("headrace"))]
    status = subprocess.run(
        [*headrace, "status", "--json", "--home", str(home)], check=True, capture_output=True
    )
    found = json.loads(status.stdout)
    row = json.loads((home / "data" / "requests.jsonl").read_text().splitlines()[0])
    with Headrace(found["endpoints"]["grpc"], key=found["demo_key"]) as client:
        # The client's own first call, and the door's, are not what is measured.
        client.predict("flights", row)
        subprocess.run(
            [*headrace, "restart", "executor", "--home", str(home)], check=True, capture_output=True
        )

        def took() -> float:
            began = time.perf_counter()
            client.predict("flights", row)
            return time.perf_counter() - began

        times, rested = [took() for _ in range(1 + _LATER)], []
        for _ in range(_RESTS):
            time.sleep(_REST_S)
            rested.append(took())
    return times[0], statistics.median(times[1:]), statistics.median(rested)


def started(models: Path, name: str) -> Times:
    """Of calls in this process."""
    grpc_core.settle()
    import uvloop

    return uvloop.run(_called(models, name))


async def _called(models: Path, name: str) -> Times:
    artifact = newest(models, name)
    raw = inputs_of(artifact).request(name, 1)
    async with executor(models, grpc_core.freeze, load=[f"{name}:{artifact.metadata.version}"]) as servicer:

        async def took() -> float:
            began = time.perf_counter()
            await one(servicer, raw)
            return time.perf_counter() - began

        times, rested = [], []
        for _ in range(1 + _LATER):
            times.append(await took())
            await asyncio.sleep(0)
        for _ in range(_RESTS):
            await asyncio.sleep(_REST_S)
            rested.append(await took())
    return times[0], statistics.median(times[1:]), statistics.median(rested)


if __name__ == "__main__":
    main()
