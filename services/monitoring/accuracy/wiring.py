"""What accuracy is made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from headrace.api.monitoring.v1 import accuracy_pb2
from headrace.hop.definition import Runtime, Service
from headrace.hop.process.background import running
from services.monitoring.accuracy.keeper import AccuracyKeeper
from services.monitoring.accuracy.metrics import AccuracyMetrics
from services.monitoring.accuracy.observer import Calibrated, PredictionObserver
from services.monitoring.accuracy.panel import AccuracyPanel
from services.monitoring.accuracy.servicer import AccuracyServicer
from services.monitoring.accuracy.settings import AccuracySettings
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.database.facts import Facts
from services.monitoring.database.periodic import attempt, every, sweeps
from services.monitoring.events.allowance import Allowance

_STEP_S, _LOOK_S, _NAME = 1.0, 10.0, "accuracy"
_WALL = time.time  # noqa: TID251 - predictions and outcomes are kept by date


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What others take of it."""

    observer: PredictionObserver
    service: Service
    panel: AccuracyPanel


@asynccontextmanager
async def telling_accuracy(
    settings: AccuracySettings,
    store: AccuracyStore,
    facts: Facts,
    calibrated: Calibrated,
    runtime: Runtime,
) -> AsyncIterator[Accuracy]:
    """Stores and judges predictions meanwhile; whoever has events shows them to the observer."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(AccuracyMetrics)
    allowance = Allowance(settings.rows_per_s, int(10 * settings.rows_per_s))
    observer = PredictionObserver(allowance, calibrated, metrics.left_out.inc)
    keeper = AccuracyKeeper(settings, observer, store, facts, metrics, _WALL)
    descriptor = accuracy_pb2.DESCRIPTOR.services_by_name["AccuracyService"]
    work = every(_STEP_S, keeper.step, _NAME, log), every(_LOOK_S, keeper.look, _NAME, log)
    async with AsyncExitStack() as stack:
        # What was gathered in the last second.
        stack.push_async_callback(attempt, keeper.step, _NAME, log)
        for each in (*work, sweeps(keeper.sweep, _NAME, log)):
            await stack.enter_async_context(running(each, _NAME, log))
        panel = AccuracyPanel(keeper.figures, settings.least_coverage)
        yield Accuracy(observer, Service(descriptor, AccuracyServicer(keeper)), panel)
