"""The console's part of the service's wiring: what it shows, from the parts of the service that know it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.catalog.access import Records
from headrace.hop.config import ConfigError
from headrace.hop.definition import Runtime
from headrace.releases import Release
from headrace.releases.of_records import RecordReleases
from services.monitoring.config import MonitoringConfig
from services.monitoring.console.ports import ConsoleSources, Sources
from services.monitoring.objectives import ReleaseObjectives
from services.monitoring.rollouts.analyser import Analysis
from services.monitoring.ticks import Ticks

_WALL = time.time  # noqa: TID251 - pages show dates, and sessions outlive this process


@asynccontextmanager
async def serving_console(
    settings: MonitoringConfig,
    records: Records | None,
    runtime: Runtime,
    ticks: Ticks,
    analysis: Analysis | None,
    others: ConsoleSources,
) -> AsyncIterator[None]:
    """Serves the console meanwhile. `others`: what other parts of monitoring bring. Raises ConfigError."""
    # Its packages take memory and time that a service without a console does not spend.
    from services.monitoring.console.assembly import console

    own = settings.console
    if records is None or analysis is None or own is None:
        raise ConfigError("console: it shows releases, so it needs the setting control")
    store = RecordReleases(records)
    promises = ReleaseObjectives(store, ticks, time.monotonic)

    def slow_s(release: Release) -> float | None:
        guard = release.rollout.guards.get("slow") if release.rollout else None
        slow_ms = (guard.slow_ms if guard else None) or promises(release).slow_ms
        return slow_ms / 1000 if slow_ms else None

    sources = Sources(store, ticks, analysis.analyser.status, slow_s, analysis.read_out, others)
    async with console(own, sources, runtime.telemetry.log, _WALL, time.monotonic):
        yield
