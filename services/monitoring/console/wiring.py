"""The console's part of the service's wiring: what it shows, from the parts of the service that know it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.analysis import ReadOut
from headrace.catalog.access import Records
from headrace.hop.config import ConfigError
from headrace.hop.definition import Runtime
from headrace.releases import Experiment, Release
from headrace.releases.of_records import RecordReleases
from services.monitoring.config import MonitoringConfig
from services.monitoring.console.settings import ConsoleSettings
from services.monitoring.database.facts import Facts
from services.monitoring.events.query import Found
from services.monitoring.events.values import Query
from services.monitoring.objectives import ReleaseObjectives
from services.monitoring.outcomes.records import Outcome
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.ticks import Ticks

if TYPE_CHECKING:
    from services.monitoring.console.panels.freshness import Freshness
    from services.monitoring.console.ports import (
        Explain,
        PanelSource,
        RequestSources,
        Sources,
    )
    from services.monitoring.outcomes.succession import Succession
    from services.monitoring.rollouts.analyser import Analysis

_WALL = time.time  # noqa: TID251 - pages show dates, and sessions outlive this process


@dataclass(frozen=True, slots=True)
class Beside:
    """What other parts of monitoring bring. `events` None: they are not kept."""

    facts: Facts
    outcomes: OutcomeStore
    events: Callable[[Query], Awaitable[Found]] | None = None
    freshness: Freshness | None = None
    explanation: Explain | None = None
    panels: Sequence[PanelSource] = ()
    succession: Callable[[str], Succession | None] = lambda _: None


@asynccontextmanager
async def serving_console(
    settings: MonitoringConfig,
    records: Records | None,
    runtime: Runtime,
    ticks: Ticks,
    analysis: Analysis | None,
    beside: Beside,
) -> AsyncIterator[None]:
    """Serves the console meanwhile. `beside`: what other parts of monitoring bring. Raises ConfigError."""
    # Its packages take memory and time that a service without a console does not spend.
    from services.monitoring.console.assembly import console

    own = settings.console
    if records is None or own is None:
        raise ConfigError("console: it shows releases, so it needs the setting control")
    sources = _sources(own, RecordReleases(records), records, ticks, analysis, beside)
    async with console(own, sources, runtime.telemetry.log, _WALL, time.monotonic):
        yield


def _sources(
    own: ConsoleSettings,
    store: RecordReleases,
    records: Records,
    ticks: Ticks,
    analysis: Analysis | None,
    beside: Beside,
) -> Sources:
    from headrace.repository.model_index import recorded
    from services.monitoring.console.facts.models import ModelFacts
    from services.monitoring.console.facts.trails import JournalTrail
    from services.monitoring.console.ports import Sources

    promises = ReleaseObjectives(store, ticks, time.monotonic)
    models = None
    if own.models is not None:
        models = ModelFacts(own.models, own.model_keys, own.executor_state, store, recorded(records))
    title = "Models: added, loaded, refused"
    own_trails = [JournalTrail("models", title, own.model_audit)] if own.model_audit else []

    def slow_s(release: Release) -> float | None:
        guard = release.rollout.guards.get("slow") if release.rollout else None
        slow_ms = (guard.slow_ms if guard else None) or promises(release).slow_ms
        return slow_ms / 1000 if slow_ms else None

    async def read_out(pipeline: str) -> tuple[Experiment, ReadOut] | None:
        return None if analysis is None else await analysis.read_out(pipeline)

    return Sources(
        store,
        records,
        ticks.by_router,
        lambda pipeline: ticks.snapshot(pipeline).arms,
        ticks.routers,
        lambda pipeline: None if analysis is None else analysis.analyser.status(pipeline),
        slow_s,
        read_out,
        beside.panels,
        own_trails,
        models,
        beside.succession,
        _requests(own, beside),
        beside.freshness,
    )


def _requests(own: ConsoleSettings, beside: Beside) -> RequestSources | None:
    from services.monitoring.console.ports import RequestSources

    facts, store, events = beside.facts, beside.outcomes, beside.events
    if events is None:
        return None

    async def outcomes(tenant: str, request_id: str) -> list[Outcome]:
        return await facts.run(store.of_request, tenant, request_id)

    return RequestSources(events, outcomes, own.traces, beside.explanation)
