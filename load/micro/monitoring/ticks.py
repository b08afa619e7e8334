"""`ticks`: what counting an answer costs the router, per batch, with the counting that is put off until a tick included."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from headrace.columns import Batch, Column, DType, Rows
from headrace.pipeline import Pipeline
from headrace.pipeline.spec import OutputField
from headrace.pipeline.types import ColumnType
from services.router.ticks.counters import NO_RELEASE, Counted, Counters, Part

_BATCHES = 20_000


def run(options: argparse.Namespace) -> None:
    """Prints medians of µs per batch."""
    print("| rows | nothing compared | requests counted | keys counted | exposures noted too |")
    print("|--:|--:|--:|--:|--:|")
    keyed = Counted(1, compares=True, by="key", salt="salt")
    ways = (NO_RELEASE, Counted(1, compares=True), keyed, replace(keyed, exposes=True))
    for rows in options.rows:
        took = [statistics.median(_measured(how, rows) for _ in range(options.runs)) for how in ways]
        print(f"| {rows} | " + " | ".join(f"{us:.2f}" for us in took) + " |", flush=True)


def _measured(how: Counted, rows: int) -> float:
    counters, part, answer = Counters(), _part(rows), _answer(rows)
    answered: Callable[[Counted, Part, Batch, float], None] = counters.answered
    count = _BATCHES if not how.exposes else _BATCHES // 10
    began = time.process_time()
    for i in range(count):
        answered(how, part, answer, 0.0123)
        if not i % 500:  # a second of load
            counters.received(counters.tick())
    counters.received(counters.tick())
    return (time.process_time() - began) / count * 1e6


def _part(rows: int) -> Part:
    outputs = (
        OutputField("delayed", ColumnType(DType.BOOL)),
        OutputField("probability", ColumnType(DType.FLOAT32)),
    )
    pipeline = Pipeline("flights", 1, "0" * 64, "", 1000, (), (), outputs)
    keys = [f"N{i}" for i in np.random.default_rng(1).integers(0, 5000, rows)]
    requests = Rows.one_request(rows, "request", "tenant", 1e9)
    requests.request_ids = [f"request {i}" for i in range(rows)]
    batch = Batch.of(requests, [Column.of_text("key", keys)])
    return Part("live", pipeline, batch, batch)


def _answer(rows: int) -> Batch:
    probability = np.random.default_rng(1).random(rows, np.float32)
    columns = [Column.of("delayed", probability > 0.3), Column.of("probability", probability)]
    return Batch.of(Rows.one_request(rows, "request", "tenant", 1e9), columns)
