"""`events`: what prediction events cost: µs of the event loop for a batch before the answer leaves, and µs a row of what follows
beside it (the router's message on its thread, the monitoring service's segment on its own), plain and sealed. All is CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from headrace.columns import Batch, Column, Rows, Timing
from headrace.encryption import EncryptionSettings, Sealer, sealer_of
from headrace.encryption.kms.file_kms import make
from headrace.events import EventGroup, Mask, messages
from headrace.pipeline import ModelUse, parse
from headrace.releases import Released
from services.monitoring.events.metrics import SegmentMetrics
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.storage.index import SCHEMA, EventIndex
from services.monitoring.events.storage.store import EventStore
from services.monitoring.outcomes.database import Database
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.noted import Noted
from services.router.events.regulated.journal_file import JournalFiles
from services.router.events.ring import Notes, Ring
from services.router.events.settings import EventsSettings
from services.router.pipelines import Compiler
from services.router.routes.run import RouteResult
from services.router.stages.runner import StageResult
from services.router.ticks.counters import Part

_COLUMNS = 24
_BATCHES = 20
_DOCUMENT = f"""\
pipeline: p
version: 1
deadline_ms: 100
inputs: {{{", ".join(f"c{i}: float64" for i in range(_COLUMNS - 1))}}}
stages: [{{model: m, name: m, inputs: {{x: c0}}, outputs: {{y: {{column: y, type: float64}}}}}}]
outputs: [y]
"""
_WALL = time.time  # noqa: TID251 - events are kept by date


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    print(
        "| rows a batch | CPU µs a batch before the answer | message, µs a row | segment, µs a row | sealed, µs a row |"
        " journal, µs a batch | sealed, µs a batch |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for rows in options.rows:
        noted, offer = _offered(rows, options.seconds)
        # As many rows as leave together.
        count = max(EventsSettings().message_rows // rows, 1)
        together = [replace(noted, first=1 + i * rows) for i in range(count)]
        sent, *stored = _beside(together, options.seconds)
        journaled = _journaled(noted, options.seconds)
        figures = [offer, sent, *stored, *journaled]
        print(f"| {rows} | {' | '.join(f'{figure:.2f}' for figure in figures)} |", flush=True)


class _Idle:
    """A stage that is never run."""

    service = "executor"

    def __init__(self, _stage: Any) -> None: ...

    async def run(self, batch: Batch) -> StageResult:
        raise NotImplementedError


def _offered(rows: int, seconds: float) -> tuple[Noted, float]:
    """What is noted of a batch, and the median µs of its begin and end."""
    served = Compiler({"model": _Idle}).compile(Released.of(parse(_DOCUMENT, "p.yaml")))
    metrics, log = EventMetrics(CollectorRegistry()), structlog.get_logger()
    settings = EventsSettings(max_waiting_rows=10_000_000)
    ring = Ring(settings, Notes(settings.max_value_bytes, _WALL), metrics, time.monotonic, log)
    route, result = served.routes[0], _result(rows)
    part = Part(route.name, served.pipeline, result.batch, result.batch)
    noted: list[Noted] = []

    def once() -> None:
        for _ in range(_BATCHES):
            ring.begin(served, route, part)(result)

    def emptied() -> None:
        noted[:] = ring.take(1 << 30)

    taken = _median(once, seconds, emptied) / _BATCHES
    return noted[0], taken


def _result(rows: int) -> RouteResult:
    ids = [f"{i:032x}" for i in range(rows)]
    context = Rows(ids, ["tenant"] * rows, [1] * rows, [9e9] * rows, [""] * rows)
    columns = {
        f"c{i}": Column.of(f"c{i}", np.random.default_rng(i).random(rows)) for i in range(_COLUMNS - 1)
    }
    columns["y"] = Column.of("y", np.zeros(rows))
    bits = Column.of("@fallbacks", np.zeros(rows, np.uint64))
    timings = [Timing("m", "executor", 0, 900, rows), Timing("m/run", "executor", 10, 700, rows)]
    answer = Batch(context, {"y": columns["y"], "@fallbacks": bits}, {}, timings)
    return RouteResult(answer, [], [ModelUse("m", "m", "1", "a" * 64)], columns)


def _beside(noted: list[Noted], seconds: float) -> tuple[float, float, float]:
    """Median µs a row of the message, and of its way into a segment, with its share of the Parquet file: plain, and sealed."""
    rows, builder = sum(map(len, noted)), GroupBuilder(Mask(None))

    def message() -> bytes:
        return messages.write("r", 1, rows, builder.groups(noted)).SerializeToString()

    sent = _median(message, seconds, lambda: None) / rows
    groups = messages.read(messages.write("r", 1, rows, builder.groups(noted)))
    with TemporaryDirectory() as name:
        folder = Path(name)
        plain, sealed = (
            _stored(folder / kind, groups, rows, seconds, sealer)
            for kind, sealer in (("plain", None), ("sealed", _sealer(folder)))
        )
    return sent, plain, sealed


def _sealer(folder: Path) -> Sealer | None:
    make(folder / "keys")
    return sealer_of(EncryptionSettings(file=folder / "keys"))


def _stored(
    folder: Path, groups: Sequence[EventGroup], rows: int, seconds: float, sealer: Sealer | None
) -> float:
    """Median µs a row of the way into a segment."""
    log = structlog.get_logger()
    index = EventIndex(Database(folder / "index.sqlite", log, schema=SCHEMA))
    settings, meter = EventStorage(folder=folder), SegmentMetrics(CollectorRegistry())
    store = EventStore(folder, index, settings, meter, time.monotonic, _WALL, log, sealer=sealer)
    store.start()
    epoch = 0

    def segment() -> None:
        nonlocal epoch
        for _ in range(_BATCHES):
            epoch += 1  # another stream, so that no event is a repeated one
            store.take("r", epoch, rows, groups, durable=False)
        store.close_due(everything=True)

    found = _median(segment, seconds, lambda: None) / rows / _BATCHES
    store.close()
    return found


def _journaled(noted: Noted, seconds: float) -> tuple[float, float]:
    """Median CPU µs of writing a batch's message into the journal of regulated predictions: plain, and sealed."""
    content = messages.write("r", 1, len(noted), GroupBuilder(Mask(None)).groups([noted])).SerializeToString()
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = [
            JournalFiles(folder / kind, 1 << 34, 8 << 20, sealer)
            for kind, sealer in (("plain", None), ("sealed", _sealer(folder)))
        ]
        plain, sealed = (
            _median(partial(_appended, each, content), seconds, lambda: None) / _BATCHES for each in files
        )
    return plain, sealed


def _appended(files: JournalFiles, content: bytes) -> None:
    for _ in range(_BATCHES):
        files.append(1, content)


def _median(what: Callable[[], object], seconds: float, after: Callable[[], None]) -> float:
    """Median µs of a call, over at least three."""
    took: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or len(took) < 3:
        began = time.process_time()
        what()
        took.append(time.process_time() - began)
        after()
    return statistics.median(took) * 1e6
