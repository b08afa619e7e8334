"""`scaling`: what a request costs as one thing grows: its rows, its payload.

A closed loop; features from a Redis of this run's own. Each part is a table; `× first` compares rows per second with
the first line of the same shape and concurrency.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from load.generator.closed_loop import Target, drive
from load.generator.flight_requests import rows, rows_message
from load.generator.verification import verify
from load.scenarios.closed import Point
from load.systems.headrace import Running
from load.systems.processes import CpuMeter, children_of, pss_mib
from load.systems.redis_store import redis_server

_HEAD = (
    "| {} | shape | c | req/s [least–most] | rows/s | × first | p50 ms | p99 ms | server CPU µs/req | µs/row "
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

    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as redis:
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
    """Lines that are printed as they are measured. `grows`: what the first column says."""

    grows: str
    options: argparse.Namespace
    verified: dict[str, None] = field(default_factory=dict)
    disturbed: bool = False
    _first: dict[tuple[str, int], float] = field(default_factory=dict)

    def begin(self) -> None:
        """Prints the head."""
        print("\n" + _HEAD.format(self.grows), flush=True)

    def add(self, label: str, running: Running, target: Target, each: int = 1) -> dict[int, Found]:
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
            print(self._line(label, running, at_once, point, each), flush=True)
        return found

    def _line(self, label: str, running: Running, at_once: int, point: Point, each: int) -> str:
        shape = running.setup.shape
        rates = [f.rate for f in point.runs]
        if not all(rates):
            return f"| {label} | {shape} | {at_once} | no answers ({point.codes()}) | | | | | | | | | {point.failed} | |"
        first = self._first.setdefault((shape, at_once), point.rate * each)
        busy = " ~" if point.median(lambda f: f.other_cores) > 0.2 else ""
        self.disturbed |= bool(busy)
        us = point.median(lambda f: f.server_us)
        return (
            f"| {label} | {shape} | {at_once} | {point.rate:.0f} [{min(rates):.0f}–{max(rates):.0f}]{busy} "
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


def flights_target(
    running: Running,
    store: Store,
    each: int = 1,
    pipeline: str = "flights",
) -> Target:
    """Ours, asked for `each` flights at a time."""
    home = running.setup.home
    asked = rows(home)
    messages = [rows_message(pipeline, asked[i : i + each]) for i in range(0, len(asked) - each + 1, each)]
    return Target(
        running.target,
        messages,
        next(iter(running.keys.values())),
        running.pids,
        lambda replies: verify(home, store.feast, pipeline, asked, replies, each),
        store.pids,
    )
