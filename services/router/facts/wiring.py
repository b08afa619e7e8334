"""What the router's facts are made of."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from headrace.events import Mask, read_salt
from headrace.hop.client.dial import Client
from headrace.hop.config import CalleeSettings, ConfigError
from headrace.hop.definition import Runtime
from headrace.hop.process.background import running
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.collection import Collection
from services.router.events.regulated.commits import Commits
from services.router.events.regulated.journal import Journal
from services.router.events.ring import AnsweredBatch, Notes, Ring
from services.router.events.settings import EventsSettings
from services.router.events.shadows import ShadowEvents
from services.router.explanations.clients import write as write_explanations
from services.router.explanations.metrics import ExplanationMetrics
from services.router.explanations.pieces import Explained
from services.router.explanations.reports import Reports
from services.router.facts.clients import EventMessages, HopFacts
from services.router.facts.parts import Part, event_writer
from services.router.facts.queue import Lane, Queue
from services.router.facts.sender import Sender
from services.router.metrics import Metrics
from services.router.routes.observer import RunObserver
from services.router.ticks.counters import Counters

_WALL = time.time  # noqa: TID251 - events are kept by date
# Of the queue that explanations may take; and those of one message.
_SHARE, _MESSAGE_EXPLANATIONS = 0.25, 100


@dataclass(frozen=True, slots=True)
class Facts:
    """What notes facts. `observers` see each prediction; `commits`: what regulated ones wait for; None: nothing is regulated.
    `notes`: numbers those that are not; None: nobody is told of them. `monitoring`: whom they are told to."""

    counters: Counters
    observers: Sequence[RunObserver]
    commits: Commits | None
    shadows: ShadowEvents | None
    reports: Reports
    notes: Notes | None = None
    monitoring: Client | None = None


@asynccontextmanager
async def facts(
    settings: EventsSettings,
    tick_s: float,
    monitoring: CalleeSettings | None,
    runtime: Runtime,
    metrics: Metrics,
    share: Callable[[int], None],
) -> AsyncIterator[Facts]:
    """Tells the monitoring service meanwhile, if there is one. `share`: told how many routers there are.

    Raises ConfigError for an unusable salt.
    """
    log, event_metrics = runtime.telemetry.log, runtime.telemetry.once(EventMetrics)
    builder, codec = (
        GroupBuilder(Mask(read_salt(settings.salt))),
        EventMessages(f"{socket.gethostname()}-{os.getpid()}"),
    )
    place = settings.journal
    if place is not None and (older := sorted(place.folder.glob("*.journal"))):
        raise ConfigError(
            f"events.journal.folder: {older[0]} is of the version before, which must bring it to monitoring: run it until"
            " headrace_router_journal_bytes is 0"
        )
    journal = Journal(place.folder, place.max_bytes) if place else None
    async with AsyncExitStack() as stack:
        called = client = None
        if monitoring is not None:
            client = runtime.dial("monitoring", monitoring)
            stack.push_async_callback(client.close)
            called = HopFacts(client)
        collection = None
        if place is not None and journal is not None:
            stack.callback(journal.close)
            if called is not None:
                collection = Collection(
                    journal, codec, called, event_metrics, place.collect_s, time.monotonic, log
                )
                # It ends after the commits, which may write to the journal until then.
                stack.push_async_callback(collection.close)
        spool, notes = None if settings.when_unrecorded == "refuse" else journal, _notes(settings)
        commits = Commits(called, spool, notes, builder, codec, event_metrics, time.monotonic, log)
        stack.push_async_callback(commits.close)
        regulated = None if settings.nothing_regulated else commits
        if called is None:
            yield Facts(Counters(), [], regulated, None, Reports(None))
            return
        if collection is not None:
            await stack.enter_async_context(running(collection.run(), "journal", log))
        queue, rows = Queue(settings.max_waiting_bytes), settings.message_rows
        ring = Ring(queue, rows, _notes(settings), event_metrics, time.monotonic, log)
        unsent = runtime.telemetry.once(ExplanationMetrics).unsent.inc
        reports = Reports(Lane[Explained](queue, _MESSAGE_EXPLANATIONS, unsent, _SHARE))
        counters = Counters()
        told = Part[Sequence[AnsweredBatch]](
            "events",
            lambda: ring.drain() or None,
            event_writer(ring, builder, codec.part),
            event_metrics.dropped,
            event_metrics.sent.inc,
            lambda answered: sum(map(len, answered)),
        )
        event_metrics.waiting.set_function(lambda: ring.rows + told.rows)
        parts: list[Part[Any]] = [
            told,
            Part(
                "explanations",
                reports.drain,
                lambda found: asyncio.to_thread(write_explanations, found),
                lambda _, rows: unsent(rows),
            ),
        ]

        def heard(routers: int) -> None:
            share(routers)
            metrics.routers.set(routers)

        sender = Sender(queue, parts, counters, called, metrics, settings, tick_s, heard, time.monotonic, log)
        stack.push_async_callback(sender.close)
        await stack.enter_async_context(running(sender.run(), "facts", log))
        yield Facts(counters, [ring], regulated, ShadowEvents(ring, log), reports, ring.notes, client)


def _notes(settings: EventsSettings) -> Notes:
    return Notes(settings.max_value_bytes, _WALL)
