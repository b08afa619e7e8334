"""What the reception of events is made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from headrace.api.monitoring.v1 import events_pb2
from headrace.catalog.access import Records
from headrace.events import Mask, read_salt
from headrace.hop.definition import Runtime, Service
from headrace.hop.process.background import running
from services.monitoring.events.files.location import location_of
from services.monitoring.events.files.worker import FileWorker
from services.monitoring.events.manifest.manifest import Facts, Forget, Manifest
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.ports import EventObserver, GroupObserver
from services.monitoring.events.reception import Reception
from services.monitoring.events.servicer import EventsServicer
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.store import EventStore

_WALL = time.time  # noqa: TID251 - events are kept by date
# Of the process that reads files: it shares the machine with what serves.
_THREADS = 2


@asynccontextmanager
async def events(
    settings: EventStorage,
    facts: Facts | None,
    observers: Sequence[EventObserver | GroupObserver],
    runtime: Runtime,
    forget: Forget = lambda *_, **__: None,
    audit: Records | None = None,
) -> AsyncIterator[tuple[Service, Reception]]:
    """The service, and what has the events; `observers` see each event. `audit`: is told of files. Raises ConfigError for an
    unusable salt."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(EventMetrics)
    mask = Mask(read_salt(settings.salt))
    store = None
    if settings.files is not None and facts is not None:
        location = location_of(settings.files)
        worker = FileWorker(location, settings.question_bytes, _THREADS, settings.question_s)
        store = EventStore(Manifest(facts), worker, settings, metrics.files, _WALL, log)
    reception = Reception(store, mask, observers, metrics, _WALL, log, forget, audit)
    try:
        async with running(reception.run(), "files of events", log):
            descriptor = events_pb2.DESCRIPTOR.services_by_name["EventsService"]
            yield Service(descriptor, EventsServicer(reception)), reception
    finally:
        await reception.close()
