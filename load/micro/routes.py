"""What choosing routes costs: µs per request of one row, alone and in batches, by kind of release. No socket, no process."""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.columns import Batch, Column, Rows
from headrace.hop.resilience.partition import KeyPartition
from headrace.pipeline import parse, plan
from headrace.releases import Cap, Partition
from headrace.releases.document import validated
from services.router.routes.caps import PipelineCaps
from services.router.routes.partition import RowPartition
from services.router.routes.route import Route
from services.router.routes.table import RouteTable

_DOCUMENT = """\
pipeline: flights
version: 1
deadline_ms: 100
inputs: {carrier: string, tailnum: string, distance: float32}
stages:
  - {model: m, name: m, inputs: {x: distance}, outputs: {y: {column: y, type: float32}}}
outputs: [y]
"""
_CANARY = {"assign": {"weights": {"live": 0.95, "candidate": 0.05}, "by": "tailnum", "salt": "flights-17"}}
_RULES = [
    {"name": "partners", "when": {"@tenant": {"any": ["acme"]}}, "arm": "candidate"},
    {
        "name": "long",
        "when": {"distance": {"min": 4000}, "carrier": {"any": ["UA", "AA"]}},
        "arm": "candidate",
    },
]
_RELEASES: dict[str, dict[str, Any]] = {
    "one arm": {},
    "canary of 5 %, sticky": _CANARY,
    "canary of 5 %, drawn by request": {"assign": {**_CANARY["assign"], "by": None}},
    "canary and two rules": {**_CANARY, "rules": _RULES},
}
# Batches are made before, so that none has its values in the processor's cache from the time before.
_BATCHES = 64
# As Zipf's law has it, with the exponent that the requirement names.
_EXPONENT = 1.1


def run(options: argparse.Namespace) -> None:
    """`routes`: prints tables."""
    print("| release | " + " | ".join(f"{n} rows" for n in options.rows) + " |")
    print("|---|" + "--:|" * len(options.rows), flush=True)
    for name, changes in _RELEASES.items():
        table, routes = _table(changes)
        cells = [_cell(lambda b: table.choose(routes, b), n, options.runs) for n in options.rows]  # noqa: B023 - used at once
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    limits = Cap(rows_per_s=1e12, rows_in_flight=1 << 40, session_by="tailnum", session_rows_per_s=1e9)
    caps = PipelineCaps("flights", time.monotonic)
    caps.apply(limits)
    partition = RowPartition(Partition(by="tailnum"), _Eight(), time.monotonic)
    for name, way in (
        ("caps", lambda b: caps.release(caps.admit(b)[1])),
        ("partition, 8 replicas", partition.mark),
    ):
        cells = [_cell(way, n, options.runs) for n in options.rows]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    _balance(options.keys)


class _Eight:
    def healthy(self) -> dict[str, int]:
        return {f"unix:/run/executor-{i}.sock": i for i in range(8)}


def _table(changes: dict[str, Any]) -> tuple[RouteTable, tuple[Route, ...]]:
    pipeline = parse(_DOCUMENT, "flights.yaml")
    arm = {"version": 1, "revision": "ab" * 32}
    arms = ["live", "candidate"] if changes else ["live"]
    values = {"pipeline": "flights", "number": 1, "arms": dict.fromkeys(arms, arm), **changes}
    table = RouteTable.compile(validated("flights", values), dict.fromkeys(arms, pipeline))
    return table, tuple(Route(name, plan(pipeline), ()) for name in arms)


def _batch(count: int, seed: int) -> Batch:
    """As many requests of one row each."""
    draw = random.Random(seed)
    rows = Rows(
        [f"{draw.getrandbits(64):016x}" for _ in range(count)],
        [draw.choice(["demo", "other", "third"]) for _ in range(count)],
        [1] * count,
        [1e9] * count,
        [""] * count,
    )
    carriers = [draw.choice(["UA", "AA", "DL", "B6"]) for _ in range(count)]
    tails = [f"N{draw.randrange(10**5):05d}" for _ in range(count)]
    distances = np.array([draw.randrange(100, 5000) for _ in range(count)], np.float32)
    return Batch.of(
        rows,
        [
            Column.of_text("carrier", carriers),
            Column.of_text("tailnum", tails),
            Column.of("distance", distances),
        ],
    )


def _cell(way: Any, count: int, runs: int) -> str:
    """Median of the runs, µs per request."""
    batches = [_batch(count, seed) for seed in range(_BATCHES)]
    times = []
    for _ in range(runs):
        began = time.process_time()
        for _ in range(max(2000 // (count * _BATCHES), 1) + 4):
            for batch in batches:
                way(batch)
        calls = (max(2000 // (count * _BATCHES), 1) + 4) * _BATCHES
        times.append((time.process_time() - began) / calls / count * 1e6)
    return f"{statistics.median(times):.2f}"


def _balance(keys: int) -> None:
    print("\n| replicas | hottest ÷ mean | by the hash alone | rows of cold keys away from home | µs a row |")
    print("|--:|--:|--:|--:|--:|", flush=True)
    for count in (2, 3, 4, 8, 16, 32):
        print(_balanced(count, keys), flush=True)


def _balanced(count: int, keys: int) -> str:
    draw = np.random.default_rng(count)
    weights = np.arange(1, keys + 1) ** -_EXPONENT
    ranks = draw.choice(keys, size=100_000, p=weights / weights.sum())
    hashes: Sequence[int] = draw.integers(0, 2**64, size=keys, dtype=np.uint64)[ranks].tolist()
    partition = KeyPartition(1.25)
    partition.update(f"unix:/run/executor-{i}.sock" for i in range(count))
    began, owners = time.process_time(), []
    for start in range(0, len(hashes), 64):
        owners += partition.assign(hashes[start : start + 64], start / 2000)
    took = (time.process_time() - began) / len(hashes) * 1e6
    homes = [partition.home(h) for h in hashes]
    away = np.array([home != owner for home, owner in zip(homes, owners, strict=True)])[ranks >= 25]
    hottest, alone = (max(map(found.count, set(found))) * count / len(found) for found in (owners, homes))
    return f"| {count} | {hottest:.3f} | {alone:.2f} | {away.mean():.1%} | {took:.2f} |"
