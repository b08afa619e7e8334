"""The first call after an executor is ready against the later ones: does a caller see a cold start?

usage: python -m load.first_call [--models FOLDER] [--starts 5] [--home HOME]

Each start is a process of its own, which loads one model, warms it up and settles its memory as a service does; then come
calls of one row. With `--home`, of a home that is up: each start is `headrace restart executor`, each call a prediction of
`flights` at the door, as a user sees it. Prints the medians over the starts, and the worst start.
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
from headrace.hop import core
from load.executor import ROOT, executor, inputs_of, newest, one

_MODELS = ("flights_light", "flights_heavy", "open_nsfw")
_LATER = 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=ROOT / ".headrace" / "models")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    print("| model | first call µs | p50 of the later ones µs | ratio | worst start |\n|---|--:|--:|--:|--:|")
    if options.home is not None:
        _print("flights, at the door", [restarted(options.home) for _ in range(options.starts)])
        return
    # A process for each start: what the first has imported would be warm for the second.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        for name in _MODELS:
            found = processes.starmap(started, [(options.models, name)] * options.starts, chunksize=1)
            _print(name, found)


def _print(name: str, found: list[tuple[float, float]]) -> None:
    first, later = (statistics.median(part) * 1e6 for part in zip(*found, strict=True))
    ratios = [a / b for a, b in found]
    print(
        f"| {name} | {first:.0f} | {later:.0f} | {statistics.median(ratios):.2f} | {max(ratios):.2f} |",
        flush=True,
    )


def restarted(home: Path) -> tuple[float, float]:
    """Seconds of the first prediction after a restart of the executor, and the median of those after it."""
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
        times = []
        for _ in range(1 + _LATER):
            began = time.perf_counter()
            client.predict("flights", row)
            times.append(time.perf_counter() - began)
    return times[0], statistics.median(times[1:])


def started(models: Path, name: str) -> tuple[float, float]:
    """Seconds of the first call and the median of those after it."""
    core.settle()
    import uvloop

    return uvloop.run(_called(models, name))


async def _called(models: Path, name: str) -> tuple[float, float]:
    artifact = newest(models, name)
    async with executor(models, load=[f"{name}:{artifact.metadata.version}"]) as servicer:
        raw = inputs_of(artifact).request(name, 1)
        core.freeze()
        times = []
        for _ in range(1 + _LATER):
            began = time.perf_counter()
            await one(servicer, raw)
            times.append(time.perf_counter() - began)
            await asyncio.sleep(0)
    return times[0], statistics.median(times[1:])


if __name__ == "__main__":
    main()
