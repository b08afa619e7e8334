"""What the monitoring service is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.hop.definition import Definition, Runtime, Service
from services.monitoring.analysis import analysing
from services.monitoring.config import MonitoringConfig
from services.monitoring.metrics import Metrics
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.rollouts.metrics import RolloutMetrics
from services.monitoring.servicer import MonitoringServicer
from services.monitoring.ticks import Ticks

_WALL = time.time  # noqa: TID251 - outcomes are kept by date


@asynccontextmanager
async def build(settings: MonitoringConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service."""
    metrics, log = runtime.telemetry.once(Metrics), runtime.telemetry.log
    ticks = Ticks(time.monotonic, settings.silent_s)
    metrics.routers.set_function(ticks.routers)
    store = OutcomeStore(Database(settings.outcomes, log))
    recorder = Recorder(store, metrics, log, _WALL)
    retention = settings.retention
    sweeps = asyncio.create_task(recorder.sweep_every(settings.sweep_s, retention.days, retention.max_bytes))
    descriptor = monitoring_pb2.DESCRIPTOR.services_by_name["MonitoringService"]
    try:
        async with AsyncExitStack() as stack:
            analysis = None
            if settings.rollouts is not None:
                meter = runtime.telemetry.once(RolloutMetrics)
                running = analysing(settings.rollouts, ticks, recorder, store, meter, log, _WALL)
                analysis = await stack.enter_async_context(running)
            servicer = MonitoringServicer(ticks, recorder, metrics, _WALL, analysis)
            yield [Service(descriptor, servicer)]
    finally:
        sweeps.cancel()
        await asyncio.gather(sweeps, return_exceptions=True)
        await recorder.close()


SERVICE = Definition("monitoring", MonitoringConfig, build)
