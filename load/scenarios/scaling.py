"""`scaling`: what a row costs, the more of them a request has; `--keep`: by service, for `capacity`.

A closed loop; features from a Redis of this run's own. `× first` compares rows per second with the first line of the same shape
and concurrency.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from load.generator.closed_loop import Target, drive
from load.scenarios.closed import Point, pipeline_target
from load.systems.headrace import Running, Setup, configuration, headrace
from load.systems.processes import CpuMeter, children_of, pss_mib
from load.systems.redis_store import redis_server

_HEAD = (
    "| rows/request | shape | c | req/s [least–most] | rows/s | × first | p50 ms | p99 ms | server CPU µs/req | µs/row "
    "| store µs/req | client µs/req | failed | PSS MB |\n|---|---|" + "--:|" * 12
)


@contextmanager
def redis_store(home: Path) -> Iterator[tuple[Path, frozenset[int]]]:
    """A Redis of this run's own with the features of the demo: folder of its feature_store.yaml, and its process."""
    from deploy.pipelines.flights.feature_store import create
    from headrace.featurestore.writer import materialize

    with tempfile.TemporaryDirectory() as name, redis_server() as redis:
        folder = Path(name) / "feast"
        materialize(create(folder, home / "data", f"127.0.0.1:{redis.port}"), datetime.now(UTC))
        yield folder, frozenset([redis.pid])


class Line(NamedTuple):
    """One line of the table. By service: its part of the servers' CPU, and its memory in MiB (PSS)."""

    shape: str
    rows: int
    at_once: int
    point: Point
    shares: Mapping[str, float]
    memory: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.point.rate * self.rows

    def text(self, first: Line) -> str:
        """As the table has it. `first`: of the same shape and concurrency."""
        point, start = self.point, f"| {self.rows} | {self.shape} | {self.at_once} |"
        if not point.answered():
            return f"{start} no answers ({point.codes()}) | | | | | | | | | {point.failed} | |"
        us = point.median(lambda f: f.server_us)
        return (
            f"{start} {point.speed()} | {self.rate:.0f} | {self.rate / first.rate:.2f} | {point.latency()} "
            f"| {us:.0f} | {us / self.rows:.1f} | {point.median(lambda f: f.helpers_us):.0f} "
            f"| {point.median(lambda f: f.client_us):.0f} | {point.failed} | {sum(self.memory.values()):.0f} |"
        )


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Each one's part of the sum; nothing of nothing."""
    total = sum(seconds.values())
    return {name: s / total if total else 0.0 for name, s in seconds.items()}


def _measured(running: Running, target: Target, each: int, at_once: int, options: argparse.Namespace) -> Line:
    """A target whose requests have `each` rows."""
    pids = {name: children_of([pid]) for name, pid in running.services.items()}
    meters = {name: CpuMeter(own) for name, own in pids.items()}
    point = Point([drive(target, at_once, options.seconds, seed=i + 1) for i in range(options.runs)])
    parts = shares({name: meter.seconds() for name, meter in meters.items()})
    memory = {name: pss_mib(own) for name, own in pids.items()}
    return Line(running.setup.shape, each, at_once, point, parts, memory)


def run(options: argparse.Namespace) -> None:
    """Prints the table as it is measured."""
    seen: list[Line] = []
    with redis_store(options.home) as (feast, helpers):
        print(f"{configuration(Setup(options.home, options.shapes[0], feast=feast))}\n\n{_HEAD}", flush=True)
        for shape in options.shapes:
            with headrace(Setup(options.home, shape, feast=feast)) as running:
                for each in options.rows:
                    target = replace(pipeline_target(running, each=each), helpers=helpers)
                    for at_once in options.conc:
                        seen.append(_measured(running, target, each, at_once, options))
                        same = (line for line in seen if (line.shape, line.at_once) == (shape, at_once))
                        print(seen[-1].text(next(same)), flush=True)
    print("\n~: others used more than 0.2 cores meanwhile")
    print("\n".join(dict.fromkeys(f.verified for line in seen for f in line.point.runs)))
    if options.keep:
        lines = ",\n".join(json.dumps(_kept(line)) for line in seen)
        options.keep.write_text(f"[\n{lines}\n]\n")


def _kept(line: Line) -> dict[str, Any]:
    """What `capacity` reads."""
    point, us = line.point, line.point.median(lambda f: f.server_us)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "shape": line.shape,
        "rows": line.rows,
        "at_once": line.at_once,
        "rate": round(point.rate),
        "p99_ms": round(point.median(lambda f: f.p99_us) / 1e3, 1),
        "services_us": {name: round(part * us, 1) for name, part in line.shares.items()},
        "store_us": round(point.median(lambda f: f.helpers_us), 1),
        "memory_mib": {name: round(mib) for name, mib in line.memory.items()},
        "disturbed": point.median(lambda f: f.other_cores) > 0.2,
    }
