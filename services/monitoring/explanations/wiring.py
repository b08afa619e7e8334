"""What the explanations are made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.api.monitoring.v1 import explanations_pb2
from headrace.hop.definition import Runtime, Service
from headrace.hop.process.background import running
from services.monitoring.database.facts import Facts
from services.monitoring.database.periodic import sweeps
from services.monitoring.events.reception import Reception
from services.monitoring.explanations.explanations import Explanations
from services.monitoring.explanations.metrics import ExplanationMetrics
from services.monitoring.explanations.servicer import ExplanationsServicer
from services.monitoring.explanations.settings import ExplanationStorage
from services.monitoring.explanations.store import ExplanationStore
from services.monitoring.outcomes.store import OutcomeStore

_WALL = time.time  # noqa: TID251 - explanations are kept by date


@asynccontextmanager
async def explanations(
    settings: ExplanationStorage,
    store: ExplanationStore,
    reception: Reception,
    facts: Facts,
    outcomes: OutcomeStore,
    runtime: Runtime,
) -> AsyncIterator[tuple[Service, Explanations]]:
    """The service, and what the console shows."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(ExplanationMetrics)
    made = Explanations(store, reception, facts, outcomes, metrics, _WALL)
    name = "removal of old explanations"
    descriptor = explanations_pb2.DESCRIPTOR.services_by_name["ExplanationsService"]
    async with running(sweeps(lambda: made.sweep(settings), name, log), name, log):
        yield Service(descriptor, ExplanationsServicer(made)), made
