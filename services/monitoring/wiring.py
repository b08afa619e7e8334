"""What the monitoring service is made of."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from headrace.analysis import ReadOut
from headrace.api.monitoring.v1 import facts_pb2, monitoring_pb2
from headrace.catalog.remote import RemoteRecords
from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.process import background
from headrace.releases import Experiment, Release
from headrace.releases.of_records import RecordReleases
from headrace.resources.service import control_client
from headrace.ticks import LATENCY_EDGES_S
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.accuracy.wiring import telling_accuracy
from services.monitoring.alerts.wiring import watching_alerts
from services.monitoring.config import MonitoringConfig
from services.monitoring.console.ports import ConsoleSources
from services.monitoring.console.requests.views import Views
from services.monitoring.console.wiring import serving_console
from services.monitoring.cost.wiring import counting_cost
from services.monitoring.database import periodic
from services.monitoring.database.facts import Facts
from services.monitoring.deployments import tell_deployments
from services.monitoring.drift.wiring import drift_of
from services.monitoring.events.ports import EventObserver, GroupObserver
from services.monitoring.events.reception import Reception
from services.monitoring.events.wiring import events
from services.monitoring.experiments import experiment_read_out
from services.monitoring.explanations.store import ExplanationStore
from services.monitoring.explanations.wiring import explanations
from services.monitoring.guards.counter import AnswerCounter
from services.monitoring.guards.guard import Objectives
from services.monitoring.intake.answered import Answered
from services.monitoring.intake.servicer import FactsServicer
from services.monitoring.metrics import Metrics
from services.monitoring.objectives import ReleaseObjectives
from services.monitoring.outcomes.erasure import erase
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.records import Judged
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.queries.registry import sections
from services.monitoring.rollout_counts import RolloutCounts, Seen
from services.monitoring.rollouts.analyser import Analyser, Analysis
from services.monitoring.rollouts.handover import ControlLadder, ControlLease
from services.monitoring.rollouts.metrics import RolloutMetrics
from services.monitoring.servicer import AnalysisServicer, MonitoringServicer
from services.monitoring.ticks import Ticks

# Stores are called on these; a call that hangs must not hold up the others.
_THREADS = 4
_WALL = time.time  # noqa: TID251 - outcomes are kept by date


@asynccontextmanager
async def build(settings: MonitoringConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service. Raises ConfigError."""
    metrics, log = runtime.telemetry.once(Metrics), runtime.telemetry.log
    ticks = Ticks(time.monotonic, settings.silent_s)
    metrics.routers.set_function(ticks.routers)
    facts = Facts(settings.database, metrics.failing, log)
    store, judged = OutcomeStore(facts), AccuracyStore(facts, settings.accuracy.window_s)
    recorder = Recorder(facts, store, metrics, _WALL)
    retention = settings.retention
    sweep = partial(recorder.sweep, retention.days, retention.max_rows)
    analysers = AsyncExitStack()
    services = monitoring_pb2.DESCRIPTOR.services_by_name
    try:
        removal = periodic.sweeps(sweep, "removal of old outcomes", log)
        await analysers.enter_async_context(background.running(removal, "removal of old outcomes", log))
        records = await analysers.enter_async_context(_records(settings, runtime))
        tell_deployments(settings.deployments, runtime)
        eyes = await _eyes(analysers, settings, records, runtime, ticks, facts, store, judged)
        analysis = None
        if records is not None:
            analysis = await analysers.enter_async_context(
                _analysing(records, runtime, ticks, facts, store, eyes.seen)
            )
        if settings.console is not None:
            await analysers.enter_async_context(
                serving_console(settings, records, runtime, ticks, analysis, eyes.shown)
            )
        yield [
            Service(services["MonitoringService"], MonitoringServicer(recorder, _WALL)),
            Service(services["AnalysisService"], AnalysisServicer(analysis, eyes.events)),
            *eyes.services,
        ]
    finally:
        await analysers.aclose()
        await asyncio.to_thread(facts.close)


@dataclass(frozen=True, slots=True)
class _Eyes:
    """What looks at events of predictions, and what others need of it: services, the console, explanations, rollouts."""

    services: Sequence[Service]
    shown: ConsoleSources
    events: Reception
    seen: Seen


async def _eyes(
    stack: AsyncExitStack,
    settings: MonitoringConfig,
    records: RemoteRecords | None,
    runtime: Runtime,
    ticks: Ticks,
    facts: Facts,
    outcomes: OutcomeStore,
    judged: AccuracyStore,
) -> _Eyes:
    """They look until the stack is closed. Raises ConfigError."""
    log = runtime.telemetry.log
    drift = await stack.enter_async_context(
        drift_of(settings, RecordReleases(records) if records else None, runtime, facts, outcomes)
    )
    accuracy = await stack.enter_async_context(
        telling_accuracy(settings.accuracy, judged, facts, drift.monitor.calibrated, runtime)
    )
    watch = await stack.enter_async_context(watching_alerts(settings.alerts, facts, runtime))
    cost = await stack.enter_async_context(
        counting_cost(settings.cost, settings.events.folder, facts, runtime, watch)
    )
    answers = AnswerCounter()
    observers: list[EventObserver | GroupObserver] = [
        accuracy.observer,
        *cost.observers,
        answers,
    ]
    kept_explanations = ExplanationStore(facts)
    event_service, reception = await stack.enter_async_context(
        events(
            settings.events,
            facts,
            observers,
            runtime,
            partial(erase, clock=_WALL),
            records,
        )
    )
    await stack.enter_async_context(drift.watching(reception))
    explanation_service, explained = await stack.enter_async_context(
        explanations(
            settings.explanations,
            kept_explanations,
            reception,
            facts,
            outcomes,
            runtime,
        )
    )
    answered = Answered(reception, time.monotonic, log)
    await stack.enter_async_context(background.running(answered.run(), "answered events", log))
    intake = FactsServicer(
        ticks,
        reception,
        explained,
        answered,
        cost.explanations(),
        runtime.telemetry.once(Metrics),
        log,
    )
    asked = sections(reception.over, Views(RecordReleases(records)), _WALL) if records else []
    shown = ConsoleSources(
        lambda tenant, request_id: facts.run(outcomes.of_request, tenant, request_id),
        reception.find if settings.events.files is not None else None,
        reception.over if settings.events.files is not None else None,
        explained.of,
        [*asked, drift.panel, accuracy.panel, *cost.panels()],
        alerts=watch if settings.cost.told else None,
    )
    seen = Seen(
        lambda pipeline, wanted: answers.taken(pipeline, wanted, _WALL()),
        drift.monitor.looks,
        drift.monitor.ranges,
        lambda pipeline: facts.run(judged.windows, 0.0, pipeline),
    )
    reports = Service(facts_pb2.DESCRIPTOR.services_by_name["FactsService"], intake)
    return _Eyes(
        [reports, event_service, accuracy.service, explanation_service, *cost.services()],
        shown,
        reception,
        seen,
    )


@asynccontextmanager
async def _analysing(
    records: RemoteRecords,
    runtime: Runtime,
    ticks: Ticks,
    facts: Facts,
    outcomes: OutcomeStore,
    seen: Seen,
) -> AsyncIterator[Analysis]:
    """Judges the rollouts of these releases meanwhile. Raises ConfigError."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(RolloutMetrics)
    loop = asyncio.get_running_loop()
    lease = ControlLease(records, f"{socket.gethostname()}/{os.getpid()}")
    releases = RecordReleases(records)
    promises = ReleaseObjectives(releases, ticks, time.monotonic)
    async with background.threads(_THREADS, "rollouts") as threads:

        async def judged(pipeline: str, since: int, by_key: bool) -> Mapping[tuple[int, str], Judged]:
            counts = outcomes.judged_keys if by_key else outcomes.judged
            return await facts.run(counts, pipeline, since)

        async def read_out(pipeline: str) -> tuple[Experiment, ReadOut] | None:
            history = await loop.run_in_executor(threads, releases.history, pipeline)
            found = await facts.run(experiment_read_out, history, outcomes)
            experiment = history[0].experiment if history else None
            return (experiment, found) if experiment and found else None

        async def objectives(release: Release) -> Objectives:
            return await loop.run_in_executor(threads, promises, release)

        counts = RolloutCounts(ticks.by_epoch, judged, objectives, lambda _: metrics.failed("outcomes"), seen)
        analyser = Analyser(
            releases,
            counts,
            lease,
            ControlLadder(records),
            LATENCY_EDGES_S,
            metrics,
            log,
            _WALL,
            threads,
        )
        # If a bug ends it, rollouts stay where they are until this process is restarted.
        async with background.running(analyser.run(), "analyser of rollouts", log):
            yield Analysis(analyser, read_out)


@asynccontextmanager
async def _records(settings: MonitoringConfig, runtime: Runtime) -> AsyncIterator[RemoteRecords | None]:
    """The records of control; None: the settings name none. Raises ConfigError."""
    async with control_client(settings.control, runtime) as control:
        if control is None:
            yield None
            return
        records = RemoteRecords.over(control, asyncio.get_running_loop())
        try:
            yield records
        finally:
            records.close()


SERVICE = Definition("monitoring", MonitoringConfig, build)
