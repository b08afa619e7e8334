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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from load.generator.closed_loop import Target, drive
from load.generator.flight_requests import rows, rows_message
from load.generator.verification import verify
from load.scenarios.closed import Point
from load.systems.headrace import Running, Setup, configuration, headrace
from load.systems.processes import CpuMeter, children_of, pss_mib
from load.systems.redis_store import redis_server

_HEAD = (
    "| rows/request | shape | c | req/s [least–most] | rows/s | × first | p50 ms | p99 ms | server CPU µs/req | µs/row "
    "| store µs/req | client µs/req | failed | PSS MB |\n|---|---|" + "--:|" * 12
)


@dataclass(frozen=True, slots=True)
class Store:
    """A Redis with the features of the demo in it: folder of its feature_store.yaml, and its process."""

    feast: Path
    pids: frozenset[int]


@contextmanager
def redis_store(home: Path) -> Iterator[Store]:
    """Fills a Redis of this run's own."""
    from deploy.pipelines.flights.feature_store import create, materialize

    with tempfile.TemporaryDirectory() as name, redis_server() as redis:
        folder = Path(name) / "feast"
        materialize(create(folder, home / "data", f"127.0.0.1:{redis.port}"), datetime.now(UTC))
        yield Store(folder, frozenset([redis.pid]))


@dataclass(frozen=True, slots=True)
class Found:
    """Of one target at one concurrency; by service: its part of the servers' CPU, and its memory in MiB (PSS)."""

    point: Point
    shares: dict[str, float]
    memory: Mapping[str, float]


@dataclass
class Table:
    """Lines that are printed as they are measured."""

    options: argparse.Namespace
    verified: dict[str, None] = field(default_factory=dict)
    disturbed: bool = False
    _first: dict[tuple[str, int], float] = field(default_factory=dict)

    def begin(self) -> None:
        """Prints the head."""
        print("\n" + _HEAD, flush=True)

    def add(self, running: Running, target: Target, each: int) -> dict[int, Found]:
        """Measures a target whose requests have `each` rows, and prints a line for each concurrency."""
        found = {}
        pids = {name: children_of([pid]) for name, pid in running.services.items()}
        for at_once in self.options.conc:
            meters = {name: CpuMeter(own) for name, own in pids.items()}
            runs = [
                drive(target, at_once, self.options.seconds, seed=i + 1) for i in range(self.options.runs)
            ]
            point = Point(runs)
            parts = shares({name: meter.seconds() for name, meter in meters.items()})
            found[at_once] = Found(point, parts, {name: pss_mib(own) for name, own in pids.items()})
            self.verified |= dict.fromkeys(f.verified for f in runs)
            print(self._line(running, at_once, point, each), flush=True)
        return found

    def _line(self, running: Running, at_once: int, point: Point, each: int) -> str:
        shape = running.setup.shape
        rates = [f.rate for f in point.runs]
        if not all(rates):
            return f"| {each} | {shape} | {at_once} | no answers ({point.codes()}) | | | | | | | | | {point.failed} | |"
        first = self._first.setdefault((shape, at_once), point.rate * each)
        busy = " ~" if point.median(lambda f: f.other_cores) > 0.2 else ""
        self.disturbed |= bool(busy)
        us = point.median(lambda f: f.server_us)
        return (
            f"| {each} | {shape} | {at_once} | {point.rate:.0f} [{min(rates):.0f}–{max(rates):.0f}]{busy} "
            f"| {point.rate * each:.0f} | {point.rate * each / first:.2f} "
            f"| {point.median(lambda f: f.p50_us) / 1e3:.2f} | {point.median(lambda f: f.p99_us) / 1e3:.2f} "
            f"| {us:.0f} | {us / each:.1f} | {point.median(lambda f: f.helpers_us):.0f} "
            f"| {point.median(lambda f: f.client_us):.0f} | {point.failed} | {pss_mib(running.pids):.0f} |"
        )

    def end(self) -> None:
        """What the marks mean, and what was verified."""
        print(
            "\n~: others used more than 0.2 cores meanwhile"
            if self.disturbed
            else "\nNobody else used 0.2 cores."
        )
        print("\n".join(self.verified))


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Each one's part of the sum; nothing of nothing."""
    total = sum(seconds.values())
    return {name: s / total if total else 0.0 for name, s in seconds.items()}


def flights_target(running: Running, store: Store, each: int) -> Target:
    """Ours, asked for `each` flights at a time."""
    home = running.setup.home
    asked = rows(home)
    messages = [rows_message("flights", asked[i : i + each]) for i in range(0, len(asked) - each + 1, each)]
    return Target(
        running.target,
        messages,
        next(iter(running.keys.values())),
        running.pids,
        lambda replies: verify(home, store.feast, "flights", asked, replies, each),
        store.pids,
    )


class Line(NamedTuple):
    """One line of the table."""

    shape: str
    rows: int
    at_once: int
    found: Found


def run(options: argparse.Namespace) -> None:
    """Prints the tables."""
    table = Table(options)
    seen: list[Line] = []
    with redis_store(options.home) as store:
        print(configuration(Setup(options.home, options.shapes[0], feast=store.feast)))
        table.begin()
        for shape in options.shapes:
            with headrace(Setup(options.home, shape, feast=store.feast)) as running:
                for each in options.rows:
                    found = table.add(running, flights_target(running, store, each), each)
                    seen += [Line(shape, each, at_once, what) for at_once, what in found.items()]
    table.end()
    if options.keep:
        lines = ",\n".join(json.dumps(_kept(line)) for line in seen)
        options.keep.write_text(f"[\n{lines}\n]\n")


def _kept(line: Line) -> dict[str, Any]:
    """What `capacity` reads."""
    point, us = line.found.point, line.found.point.median(lambda f: f.server_us)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "shape": line.shape,
        "rows": line.rows,
        "at_once": line.at_once,
        "rate": round(point.rate),
        "p99_ms": round(point.median(lambda f: f.p99_us) / 1e3, 1),
        "services_us": {name: round(part * us, 1) for name, part in line.found.shares.items()},
        "store_us": round(point.median(lambda f: f.helpers_us), 1),
        "memory_mib": {name: round(mib) for name, mib in line.found.memory.items()},
        "disturbed": point.median(lambda f: f.other_cores) > 0.2,
    }
