"""What the monitoring service is made of."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.hop.definition import Definition, Runtime, Service
from headrace.releases import FileReleases, Release, ReleaseStore
from headrace.releases.records import open_recorded
from headrace.ticks import LATENCY_EDGES_S
from services.monitoring.config import MonitoringConfig
from services.monitoring.metrics import Metrics
from services.monitoring.objectives import ReleaseObjectives
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.rollout_counts import RolloutCounts
from services.monitoring.rollouts.analyser import Analyser, Settings
from services.monitoring.rollouts.evidence import Objectives
from services.monitoring.rollouts.handover_files import FileEvidence, FileLease
from services.monitoring.rollouts.metrics import RolloutMetrics
from services.monitoring.rollouts.notices import Notices
from services.monitoring.rollouts.ports import EvidenceStore, Lease
from services.monitoring.servicer import MonitoringServicer
from services.monitoring.ticks import Ticks

# Stores are called on these; a call that hangs must not hold up the others.
_THREADS = 4
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
    analysers = AsyncExitStack()
    descriptor = monitoring_pb2.DESCRIPTOR.services_by_name["MonitoringService"]
    try:
        if settings.releases is not None:
            await analysers.enter_async_context(
                _analysing(settings, settings.releases, runtime, ticks, recorder, store)
            )
        yield [Service(descriptor, MonitoringServicer(ticks, recorder, metrics, _WALL))]
    finally:
        await analysers.aclose()
        sweeps.cancel()
        await asyncio.gather(sweeps, return_exceptions=True)
        await recorder.close()


@asynccontextmanager
async def _analysing(
    settings: MonitoringConfig,
    place: str,
    runtime: Runtime,
    ticks: Ticks,
    recorder: Recorder,
    outcomes: OutcomeStore,
) -> AsyncIterator[Analyser]:
    """Judges the rollouts of the releases at `place` meanwhile. Raises ConfigError."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(RolloutMetrics)
    loop = asyncio.get_running_loop()
    releases = open_recorded(place, settings.release_records, lambda text: _complain(log, text))
    promises = ReleaseObjectives(releases, ticks, time.monotonic)
    with ThreadPoolExecutor(_THREADS, "rollouts") as threads:

        async def judged(pipeline: str, since: int) -> Mapping[tuple[int, str], Any]:
            return await recorder.run(outcomes.judged, pipeline, since)

        async def objectives(release: Release) -> Objectives:
            return await loop.run_in_executor(threads, promises, release)

        counts = RolloutCounts(ticks.by_epoch, judged, objectives, lambda _: metrics.failed("outcomes"))
        lease, evidence = _handover(settings, releases.store)
        analyser = Analyser(
            releases,
            counts,
            lease,
            evidence,
            Settings(LATENCY_EDGES_S),
            # The store itself records and tells of each change.
            Notices({}, threads, log, metrics.failed),
            metrics,
            log,
            _WALL,
            threads,
        )
        task = asyncio.create_task(analyser.run())
        try:
            yield analyser
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(releases.close)


def _handover(settings: MonitoringConfig, store: ReleaseStore) -> tuple[Lease, EvidenceStore]:
    """The lease and the place of the evidence, where all analysers of these releases find them."""
    if isinstance(store, FileReleases):
        folder = settings.rollouts or Path(tempfile.mkdtemp(prefix="headrace-rollouts-"))
        folder.mkdir(parents=True, exist_ok=True)
        return FileLease(folder / "lease"), FileEvidence(folder)
    # Redis is an optional package, so it is imported only where it is used.
    from headrace.releases.redis import RedisReleases
    from services.monitoring.rollouts.handover_redis import RedisEvidence, RedisLease

    assert isinstance(store, RedisReleases), "there are two kinds of stores"
    keys = f"{store.prefix}:rollouts:"
    return RedisLease(store.client, f"{keys}lease"), RedisEvidence(store.client, f"{keys}evidence:")


def _complain(log: Any, text: str) -> None:
    log.warning("a webhook was not told of a release", why=text)


SERVICE = Definition("monitoring", MonitoringConfig, build)
