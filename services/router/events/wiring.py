"""What the events of the router are made of."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from headrace.events import Mask, read_salt
from headrace.hop.config import CalleeSettings
from headrace.hop.definition import Runtime
from headrace.hop.process.background import running
from services.router.events.clients import EventMessages, HopEvents
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.collection import Collection
from services.router.events.regulated.journal import Journal
from services.router.events.regulated.journal_file import JournalFiles
from services.router.events.ring import Answered, Notes, Ring
from services.router.events.sender import Receiver, Sender
from services.router.events.settings import EventsSettings
from services.router.events.shadows import ShadowEvents
from services.router.routes.observer import RunObserver

_WALL = time.time  # noqa: TID251 - events are kept by date


@dataclass(frozen=True, slots=True)
class Events:
    """What sees each prediction, and what regulated ones wait for."""

    observers: Sequence[RunObserver]
    journal: Journal | None
    shadows: ShadowEvents | None


@asynccontextmanager
async def events(
    settings: EventsSettings, monitoring: CalleeSettings | None, runtime: Runtime, answered: Answered
) -> AsyncIterator[Events]:
    """Tells the monitoring service of predictions meanwhile, if there is one. The journal is written in any case. `answered`:
    told of each batch that was noted.

    Raises ConfigError for an unusable salt.
    """
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(EventMetrics)
    codec = EventMessages(f"{socket.gethostname()}-{os.getpid()}")
    builder = GroupBuilder(Mask(read_salt(settings.salt)))
    place = settings.journal
    files = JournalFiles(place.folder, place.max_bytes, place.max_file_bytes) if place else None
    notes = Notes(settings.max_value_bytes, _WALL)
    journal = Journal(files, notes, builder, codec, metrics, time.monotonic, log, answered)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(journal.close)
        observers: list[RunObserver] = []
        shadows: ShadowEvents | None = None
        receiver: Receiver | None = None
        if monitoring is not None:
            client = runtime.dial("monitoring", monitoring)
            stack.push_async_callback(client.close)
            receiver = called = HopEvents(client, codec)
            if place is not None and files is not None:
                collection = Collection(files, called, metrics, place.collect_s, time.monotonic, log)
                await stack.enter_async_context(running(collection.run(), "journal", log))
        if receiver is not None:
            ringed = Notes(settings.max_value_bytes, _WALL)
            ring = Ring(settings, ringed, metrics, time.monotonic, log, answered)
            sender = Sender(ring, builder, receiver, metrics, settings, time.monotonic, log)
            stack.push_async_callback(sender.close)
            await stack.enter_async_context(running(sender.run(), "events", log))
            observers.append(ring)
            shadows = ShadowEvents(ring, log)
        yield Events(observers, None if settings.nothing_regulated else journal, shadows)
