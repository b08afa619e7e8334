"""The analyser of rollouts, made of its parts. Several monitoring services may run it: the lease lets one act."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from headrace.analysis import ReadOut
from headrace.pipeline import DocumentError, parse
from headrace.releases import Experiment, Release, ReleaseStore
from headrace.releases.opening import redis_place
from headrace.releases.records import open_recorded
from headrace.ticks import LATENCY_EDGES_S
from services.monitoring.config import RolloutSettings
from services.monitoring.experiments import experiment_read_out
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.rollout_counts import RolloutCounts
from services.monitoring.rollouts.analyser import Analyser, Settings
from services.monitoring.rollouts.evidence import Objectives
from services.monitoring.rollouts.handover_files import FileEvidence, FileLease
from services.monitoring.rollouts.metrics import RolloutMetrics
from services.monitoring.rollouts.notices import Notices
from services.monitoring.rollouts.ports import EvidenceStore, Lease, Log
from services.monitoring.ticks import Ticks

# Store, lease and evidence are called one after the other; a second thread is for what hangs.
_THREADS = 2
# A Redis that does not answer for so long is away; the next look tries again.
_REDIS_S = 1.0
_RESTART_S = 1.0


@dataclass(frozen=True, slots=True)
class Analysis:
    """What can be asked of the analyser."""

    analyser: Analyser
    # Pipeline → its running experiment and what is known of it; None: there is none. Raises StorageError, OSError.
    read_out: Callable[[str], Awaitable[tuple[Experiment, ReadOut] | None]]


@asynccontextmanager
async def analysing(
    settings: RolloutSettings,
    ticks: Ticks,
    recorder: Recorder,
    outcomes: OutcomeStore,
    metrics: RolloutMetrics,
    log: Log,
    wall: Callable[[], float],
) -> AsyncIterator[Analysis]:
    """Looks at rollouts meanwhile. Raises ConfigError."""
    store = open_recorded(settings.releases, settings.records, partial(_untold, log))
    threads = ThreadPoolExecutor(_THREADS, "rollouts")
    lease, evidence = _handover(settings)

    async def judged(pipeline: str, since: int) -> Any:
        return await recorder.run(outcomes.judged, pipeline, since)

    async def read(pipeline: str) -> tuple[Experiment, ReadOut] | None:
        history = await asyncio.get_running_loop().run_in_executor(threads, store.history, pipeline)
        found = await recorder.run(experiment_read_out, history, outcomes)
        experiment = history[0].experiment if history else None
        return (experiment, found) if experiment and found else None

    def unread(error: Exception) -> None:
        metrics.failed("outcomes")
        log.warning("outcomes can't be read; rollouts are judged by their other guards", error=str(error))

    counts = RolloutCounts(ticks.by_epoch, judged, _objectives(store, threads), unread)
    # Audit and webhook hear of changes by the store itself.
    notices = Notices({}, threads, log, metrics.failed)
    how = Settings(LATENCY_EDGES_S, settings.period_s)
    analyser = Analyser(store, counts, lease, evidence, how, notices, metrics, log, wall, threads)
    looking = asyncio.create_task(_forever(analyser.run, log))
    try:
        yield Analysis(analyser, read)
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        store.close()
        threads.shutdown(wait=False, cancel_futures=True)


async def _forever(run: Callable[[], Coroutine[Any, Any, None]], log: Log) -> None:
    """Begins anew whatever ends: a rollout without an analyser would stand still, unseen."""
    while True:
        why = "it returned"
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be said and must not be the end
            why = repr(error)
        log.error("the analyser of rollouts ended unexpectedly; it begins anew", why=why)
        await asyncio.sleep(_RESTART_S)


def _untold(log: Log, problem: str) -> None:
    log.warning("the webhook of releases was not told", problem=problem)


def _handover(settings: RolloutSettings) -> tuple[Lease, EvidenceStore]:
    """Where the releases are, there the next analyser finds lease and evidence too."""
    if "://" not in settings.releases:
        settings.folder.mkdir(parents=True, exist_ok=True)
        return FileLease(settings.folder / "lease"), FileEvidence(settings.folder)
    # Optional: only installations of several machines need it.
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from services.monitoring.rollouts.handover_redis import RedisEvidence, RedisLease

    place = redis_place(settings.releases)
    more: dict[str, Any] = {"ssl": True, "ssl_ca_certs": place.ca or None} if place.tls else {}
    client = Redis(
        host=place.host,
        port=place.port,
        db=place.database,
        username=place.username,
        password=place.password,
        socket_timeout=_REDIS_S,
        socket_connect_timeout=_REDIS_S,
        retry=Retry(NoBackoff(), 0),
        **more,
    )
    prefix = f"{place.prefix}:rollouts"
    return RedisLease(client, f"{prefix}:lease"), RedisEvidence(client, f"{prefix}:evidence:")


def _objectives(
    store: ReleaseStore, threads: ThreadPoolExecutor
) -> Callable[[Release], Awaitable[Objectives]]:
    """What the live arm's document promises."""

    @lru_cache(maxsize=64)
    def promised(pipeline: str, revision: str) -> Objectives:
        text = store.document(pipeline, revision)
        try:
            found = parse(text, pipeline).objectives if text else None
        except DocumentError:
            # Of an older version; whether it can be read is not judged here.
            return Objectives()
        return Objectives(float(found.latency.ms)) if found and found.latency else Objectives()

    async def of(release: Release) -> Objectives:
        call = partial(promised, release.pipeline, release.live.revision)
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    return of
