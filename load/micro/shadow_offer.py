"""`shadow-offer`: what shadows and the recording add to a live batch: µs of the event loop, before the answer leaves.

The background task never runs here, so only the offer is measured; the queue is emptied when it is full.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from headrace.columns import Batch, Column, Rows
from headrace.pipeline import parse
from headrace.releases import Released
from services.router.pipelines import Compiler, Served
from services.router.recording.metrics import RecordingMetrics
from services.router.recording.recorder import Recorder
from services.router.recording.settings import RecordingSettings
from services.router.routes.run import RouteResult
from services.router.shadow.metrics import ShadowMetrics
from services.router.shadow.route import ShadowRoute
from services.router.shadow.settings import ShadowSettings
from services.router.shadow.shadows import Shadows
from services.router.stages.runner import StageResult
from services.router.ticks.counters import Part

_COLUMNS = 20
_DOCUMENT = """\
pipeline: p
version: 1
deadline_ms: 100
inputs: {x: float32}
stages: [{model: m, name: m, inputs: {x: x}, outputs: {y: {column: y, type: float32}}}]
outputs: [y]
"""


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    plain = Compiler({"model": _Idle}).compile(Released.of(parse(_DOCUMENT, "p.yaml")))
    with TemporaryDirectory() as folder:
        print("| rows | nothing set | shadow of 5 % | shadow of all | recording |\n|--:" + "|--:" * 4 + "|")
        for rows in options.rows:
            taken = [
                _cost(_shadows(), plain, rows, options.seconds),
                _cost(_shadows(), _with(plain, 0.05), rows, options.seconds),
                _cost(_shadows(), _with(plain, 1.0), rows, options.seconds),
                _cost(_recorder(Path(folder)), plain, rows, options.seconds),
            ]
            print(f"| {rows} | " + " | ".join(f"{us:.2f}" for us in taken) + " |", flush=True)


class _Idle:
    """A stage that is never run."""

    service = "executor"

    def __init__(self, _stage: Any) -> None: ...

    async def run(self, batch: Batch) -> StageResult:
        raise NotImplementedError


def _with(served: Served, share: float) -> Served:
    route = replace(served.routes[0], name="next")
    return replace(served, shadow=ShadowRoute(route, share, "salt", 1))


def _shadows() -> Shadows:
    return Shadows(
        ShadowSettings(), ShadowMetrics(CollectorRegistry()), time.monotonic, structlog.get_logger(), "e"
    )


def _recorder(folder: Path) -> Recorder:
    settings = RecordingSettings(folder=folder)
    metrics = RecordingMetrics(CollectorRegistry())
    return Recorder(settings, metrics, time.monotonic, lambda: datetime.now(UTC), structlog.get_logger())


def _cost(observer: Any, served: Served, rows: int, seconds: float) -> float:
    """Median µs of a batch, begin and end together."""
    ids = [f"{i:032x}" for i in range(rows)]
    context = Rows(ids, ["t"] * rows, [1] * rows, [9e9] * rows, [""] * rows)
    columns = [Column.of(f"c{i}", np.zeros(rows)) for i in range(_COLUMNS)]
    batch = Batch.of(context, columns)
    result = RouteResult(batch, [], [], batch.columns)
    part = Part(served.routes[0].name, served.pipeline, batch, batch)
    route, took, ends = served.routes[0], [], time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        for _ in range(20):
            observer.begin(served, route, part)(result)
        took.append((time.perf_counter() - began) / 20)
        _emptied(observer)
    return statistics.median(took) * 1e6


def _emptied(observer: Any) -> None:
    """Takes away what waits, as the background task would."""
    if isinstance(observer, Shadows):
        observer.discard()
    else:
        observer.waiting.clear()
