"""What evaluates alerts is made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.hop.definition import Runtime
from headrace.slo import alerts
from services.monitoring.alerts.counts import ObjectiveHistory
from services.monitoring.alerts.watch import AlertMetrics, Watch
from services.monitoring.alerts.webhooks import Webhooks
from services.monitoring.config import AlertSettings
from services.monitoring.database.facts import Facts

_WALL = time.time  # noqa: TID251 - objectives are counted by date


@asynccontextmanager
async def watching_alerts(settings: AlertSettings, facts: Facts, runtime: Runtime) -> AsyncIterator[Watch]:
    """The watch, which looks whenever it is called."""
    log = runtime.telemetry.log
    webhooks = Webhooks(settings.webhooks, _WALL, log)
    metrics = runtime.telemetry.once(AlertMetrics)
    watch = Watch(alerts(), ObjectiveHistory(facts), metrics, webhooks.tell, _WALL, log)
    runtime.telemetry.page("/api/v1/query", watch.query)
    runtime.telemetry.page("/api/v1/alerts", lambda _: watch.pending_and_firing())
    try:
        yield watch
    finally:
        webhooks.close()
