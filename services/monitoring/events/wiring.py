"""What the reception of events is made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from headrace.api.monitoring.v1 import events_pb2
from headrace.events import Mask, read_salt
from headrace.hop.definition import Runtime, Service
from headrace.hop.process.background import running
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.ports import EventObserver, GroupObserver
from services.monitoring.events.reception import Reception
from services.monitoring.events.servicer import EventsServicer
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.shipment import Shipment
from services.monitoring.events.storage.far import FarSegments, far_segments
from services.monitoring.events.storage.index import SCHEMA, EventIndex
from services.monitoring.events.storage.store import EventStore
from services.monitoring.outcomes.database import Database

_WALL = time.time  # noqa: TID251 - events are kept by date


@asynccontextmanager
async def events(
    settings: EventStorage,
    observers: Sequence[EventObserver | GroupObserver],
    runtime: Runtime,
    forget: Callable[[Sequence[bytes]], object] = lambda _: None,
) -> AsyncIterator[tuple[Service, Reception]]:
    """The service, and what has the events; `observers` see each event, `forget` gets the ids of those that are erased.
    Raises ConfigError for an unusable salt."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(EventMetrics)
    mask = Mask(read_salt(settings.salt))
    far = far_segments(settings, time.monotonic)
    store = _store(settings, far, metrics, log)
    reception = Reception(store, mask, observers, metrics, _WALL, log, forget)
    await reception.start()
    shipment = Shipment(far, reception, metrics.segments, log)
    tasks = {"reception of events": reception.run(), "shipment of segments": shipment.run()}
    try:
        async with AsyncExitStack() as stack:
            for name, work in tasks.items():
                await stack.enter_async_context(running(work, name, log))
            descriptor = events_pb2.DESCRIPTOR.services_by_name["EventsService"]
            yield Service(descriptor, EventsServicer(reception)), reception
    finally:
        await reception.close()
        await shipment.close()


def _store(
    settings: EventStorage, far: FarSegments | None, metrics: EventMetrics, log: Any
) -> EventStore | None:
    folder = settings.folder
    if folder is None:
        return None
    index = EventIndex(Database(folder / "index.sqlite", log, schema=SCHEMA, holds="the index of events"))
    return EventStore(folder, index, settings, metrics.segments, time.monotonic, _WALL, log, far)
