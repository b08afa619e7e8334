"""What control is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from headrace.api.control.v1 import ladder_pb2, records_pb2, resources_pb2
from headrace.hop.config import ConfigError
from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.process.background import running, threads
from headrace.repository.storage.store import Store, open_store
from headrace.resources.snapshot import PARTS
from services.control.audit.tasks import AuditMetrics, AuditTasks
from services.control.config import ControlConfig
from services.control.database import ControlDatabase
from services.control.head import Head
from services.control.health import Failures
from services.control.identity import Identities
from services.control.ladder.ladder import Ladder
from services.control.ladder.servicer import LadderServicer
from services.control.metrics import Metrics
from services.control.records.servicer import RecordsServicer
from services.control.resources.artifacts import Artifacts
from services.control.resources.feed import SERVICES, Feed
from services.control.resources.followers import Followers
from services.control.resources.key_file import KeyFile
from services.control.resources.publication import Publication
from services.control.resources.servicer import ResourcesServicer

# Changes and leases have threads of their own: a lease that is not prolonged for slow readers is lost.
_READERS, _WRITERS = 6, 4
# The artifact store is waited for so long after a start.
_CHECK_S = 10.0
_RECORDS = records_pb2.DESCRIPTOR.services_by_name["RecordsService"]
_RESOURCES = resources_pb2.DESCRIPTOR.services_by_name["ResourcesService"]
_LADDER = ladder_pb2.DESCRIPTOR.services_by_name["LadderService"]
_WALL = time.time  # noqa: TID251 - stages and deadlines of rollouts are dates


@asynccontextmanager
async def build(settings: ControlConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service. Raises ConfigError."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(Metrics)
    key = KeyFile(settings.signing_key)
    store = None if settings.artifacts is None else _store(settings.artifacts)
    async with AsyncExitStack() as stack:
        database = ControlDatabase(settings.database, initialise=settings.initialise)
        reads = await stack.enter_async_context(threads(_READERS, "reads"))
        changes = await stack.enter_async_context(threads(_WRITERS, "changes"))
        failures = Failures(metrics.failing, log)
        head = Head(database.open, failures.of("the database"))
        feed = Feed(database.records, reads, key.sign, lambda: datetime.now(UTC))
        followers = Followers(time.monotonic)
        publication = Publication(head, feed, followers, metrics, log, database.records, changes)
        identities = Identities(settings.may_change, settings.watchers, _kinds())
        settled = asyncio.Event()
        works = [head.follow(), publication.run()]
        checked = asyncio.Event()
        if store is None:
            checked.set()
        else:
            failed = Failures(metrics.artifacts_failing, log).of("the artifact store")
            artifacts = Artifacts(store, feed, followers, key, failed, time.monotonic)
            stack.callback(artifacts.close)
            works.append(artifacts.run())
            checked = artifacts.checked
        works.append(_settle(publication, checked, settled, settings.settle_s))

        def may_change() -> bool:
            return settled.is_set() and not followers.refusal()

        audit = AuditTasks(
            settings.audit,
            database.records,
            lambda: feed.newest.position if feed.newest else None,
            may_change,
            key.sign_bytes,
            runtime.telemetry.once(AuditMetrics),
            log,
        )
        stack.callback(audit.close)
        works += audit.all()
        records = RecordsServicer(
            database.records,
            head,
            identities,
            followers.refusal,
            followers.newest_epoch,
            publication.judged,
            settled,
            metrics,
            failures.of("the database, to be changed,"),
            reads,
            changes,
        )
        moving = Ladder(database.records, _WALL, metrics, log)
        ladder = LadderServicer(moving, identities, records, may_change)
        works.append(ladder.run())
        for work in works:
            await stack.enter_async_context(running(work, "a part of control", log))
        # Before all else, as it ends what waits for the database.
        stack.push_async_callback(asyncio.to_thread, database.close)
        stack.callback(head.stop)
        resources = ResourcesServicer(head, feed, followers, identities, settled)
        yield [
            Service(_RECORDS, records, ready=publication.loaded, end_waits=head.end_waits),
            Service(_RESOURCES, resources, end_waits=resources.end_waits),
            Service(_LADDER, ladder),
        ]


async def _settle(
    publication: Publication, checked: asyncio.Event, settled: asyncio.Event, seconds: float
) -> None:
    """Sets `settled` so long after the database was read first, and once the artifact store was looked at."""
    await publication.loaded()
    try:
        async with asyncio.timeout(_CHECK_S):
            await asyncio.gather(checked.wait(), asyncio.sleep(seconds))
    except TimeoutError:
        pass  # a store that hangs must not hold changes up
    settled.set()


def _store(place: str) -> Store:
    """Raises ConfigError."""
    try:
        return open_store(place)
    except OSError as error:
        raise ConfigError(f"artifacts: {error.strerror or error}") from None


def _kinds() -> dict[str, list[str]]:
    """Service → the kinds of records that it follows."""
    return {service: [kind for kind, found in PARTS.items() if service in found] for service in SERVICES}


SERVICE = Definition("control", ControlConfig, build)
