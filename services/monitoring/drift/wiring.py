"""What drift is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from headrace.analysis import Count
from headrace.hop.definition import Runtime
from headrace.hop.process.background import running
from headrace.releases.of_records import RecordReleases
from headrace.repository import Repository
from headrace.repository.model_index import recorded
from services.monitoring.config import MonitoringConfig
from services.monitoring.database.facts import Facts
from services.monitoring.drift.metrics import DriftMetrics
from services.monitoring.drift.monitor import DriftMonitor
from services.monitoring.drift.newest_rows import newest_rows
from services.monitoring.drift.panel import DriftPanel
from services.monitoring.drift.ports import Baselines, Followed, Rows, Series, Version
from services.monitoring.drift.release_baselines import ReleaseBaselines
from services.monitoring.drift.retrain.delivery import Retraining
from services.monitoring.drift.retrain.metrics import RetrainMetrics
from services.monitoring.drift.retrain.webhook import Webhook
from services.monitoring.drift.settings import DriftSettings
from services.monitoring.drift.watch import Watch
from services.monitoring.events.reception import Reception
from services.monitoring.outcomes.store import OutcomeStore

_WALL = time.time  # noqa: TID251 - windows are by the time of day, and causes have a date
# One thread: what it reads is cached without locks.
_THREADS = 1


@dataclass(frozen=True, slots=True)
class Drift:
    """What others take of it. `watching`: judges by these events meanwhile."""

    monitor: DriftMonitor
    panel: DriftPanel
    watching: Callable[[Reception], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def drift_of(
    settings: MonitoringConfig,
    releases: RecordReleases | None,
    runtime: Runtime,
    facts: Facts,
    outcomes: OutcomeStore,
) -> AsyncIterator[Drift]:
    """Raises ConfigError."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(DriftMetrics)
    hook = settings.drift.retrain.webhook
    webhook = Webhook(hook, _WALL) if hook is not None else None
    retraining = Retraining(settings.drift.retrain, webhook, runtime.telemetry.once(RetrainMetrics), log)
    monitor = DriftMonitor(settings.drift, metrics, retraining, log)
    threads = ThreadPoolExecutor(_THREADS, "drift")

    async def judged() -> Mapping[Version, Count]:
        found = await facts.run(outcomes.by_version)
        return {Version(*key): Count(of.rows, of.wrong) for key, of in found.items()}

    @asynccontextmanager
    async def watching(reception: Reception) -> AsyncIterator[None]:
        async def newest(series: Series, followed: Followed, now: float, judged: object) -> Rows | None:
            most = settings.drift.rows
            return await reception.over(lambda store: newest_rows(store, series, followed, most, now, judged))

        baselines = _baselines(settings.drift, releases, metrics, log)
        watch = Watch(monitor, baselines, newest, judged, _WALL, threads, log, facts)
        async with running(watch.run(), "drift", log):
            yield

    try:
        async with running(retraining.run(), "retrainings", log):
            yield Drift(monitor, DriftPanel(monitor.looks), watching)
    finally:
        # What is read at control on such a thread needs this event loop to end.
        await asyncio.to_thread(threads.shutdown)


def _baselines(
    settings: DriftSettings, releases: RecordReleases | None, metrics: DriftMetrics, log: Any
) -> Baselines:
    if settings.models is None or releases is None:
        return dict
    trust = settings.trust.trust() if settings.trust is not None else None
    repository = Repository(settings.models, trust=trust, index=recorded(releases.records))
    return ReleaseBaselines(releases, repository, log, metrics.unusable.inc)
