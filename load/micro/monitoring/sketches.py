"""`sketches`: µs per row of sketching columns for drift, by rows at once; and ms of judging a window. No socket, no process."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping

import numpy as np

from headrace.drift import Baseline, Choices, Limits, baseline_of, judge
from headrace.sketches import Sketch, Values

_TRAINING = 20_000
_BATCHES = 16
_ROWS = 40_000
_CARRIERS = ["UA", "AA", "DL", "B6", "WN", "9E", "EV", "MQ"]


def run(options: argparse.Namespace) -> None:
    """Prints medians of CPU time."""
    rng = np.random.default_rng(1)
    numeric = baseline_of(_columns(options.columns, _TRAINING, rng), Choices())
    mixed = baseline_of(_mixed(options.columns, _TRAINING, rng), Choices())
    print("| rows at once | µs a row, columns of numbers | two of them texts |")
    print("|--:|--:|--:|")
    for rows in options.rows:
        cells = [
            statistics.median(_sketched(baseline, way, options, rows) for _ in range(options.runs))
            for baseline, way in ((numeric, _columns), (mixed, _mixed))
        ]
        print(f"| {rows} | " + " | ".join(f"{us:.2f}" for us in cells) + " |", flush=True)
    sketch = Sketch(mixed.layout)
    sketch.update(_mixed(options.columns, 2000, rng), 2000)
    print(
        f"\njudging 2,000 rows: {_took(lambda: judge(mixed, sketch, Limits()), options.runs):.2f} ms; ",
        end="",
    )
    print(f"merging: {_took(lambda: Sketch(mixed.layout).merge(sketch), options.runs):.2f} ms; ", end="")
    print(f"as bytes: {len(sketch.to_bytes()) / 1024:.0f} KiB")


def _sketched(baseline: Baseline, way: object, options: argparse.Namespace, rows: int) -> float:
    assert callable(way)
    rng = np.random.default_rng(rows)
    batches: list[Mapping[str, Values]] = [way(options.columns, rows, rng) for _ in range(_BATCHES)]
    sketch = Sketch(baseline.layout)
    rounds = max(_ROWS // rows // _BATCHES, 1) if rows > 1 else 40
    began = time.process_time()
    for _ in range(rounds):
        for batch in batches:
            sketch.update(batch, rows)
    return (time.process_time() - began) / rounds / _BATCHES / rows * 1e6


def _columns(count: int, rows: int, rng: np.random.Generator) -> dict[str, Values]:
    return {f"c{i}": rng.normal(size=rows).astype(np.float32) for i in range(count)}


def _mixed(count: int, rows: int, rng: np.random.Generator) -> dict[str, Values]:
    """The last two columns are texts: one of few categories, one of many."""
    found = _columns(count - 2, rows, rng)
    found["carrier"] = [_CARRIERS[i] for i in rng.integers(0, len(_CARRIERS), rows).tolist()]
    found["tailnum"] = [f"N{i}" for i in np.minimum(rng.zipf(1.3, rows), 5000).tolist()]
    return found


def _took(work: object, runs: int) -> float:
    assert callable(work)
    times = []
    for _ in range(runs):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times) * 1e3
