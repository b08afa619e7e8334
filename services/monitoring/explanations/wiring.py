"""What the explanations are made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.api.monitoring.v1 import explanations_pb2
from headrace.hop.definition import Runtime, Service
from headrace.hop.process.background import running
from services.monitoring.events.reception import Reception
from services.monitoring.explanations.explanations import Explanations
from services.monitoring.explanations.metrics import ExplanationMetrics
from services.monitoring.explanations.servicer import ExplanationsServicer
from services.monitoring.explanations.settings import ExplanationStorage
from services.monitoring.explanations.store import SCHEMA, ExplanationStore
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.ports import Log

_WALL = time.time  # noqa: TID251 - explanations are kept by date


def explanation_store(settings: ExplanationStorage, log: Log) -> ExplanationStore:
    """The store, which the erasure of events needs too."""
    return ExplanationStore(Database(settings.file, log, schema=SCHEMA, holds="explanations"))


@asynccontextmanager
async def explanations(
    settings: ExplanationStorage,
    store: ExplanationStore,
    reception: Reception,
    recorder: Recorder,
    outcomes: OutcomeStore,
    runtime: Runtime,
) -> AsyncIterator[tuple[Service, Explanations]]:
    """The service, and what the console shows."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(ExplanationMetrics)
    made = Explanations(store, reception, recorder, outcomes, metrics, _WALL, log)
    try:
        descriptor = explanations_pb2.DESCRIPTOR.services_by_name["ExplanationsService"]
        async with running(made.sweep_every(settings), "removal of old explanations", log):
            yield Service(descriptor, ExplanationsServicer(made)), made
    finally:
        await made.close()
