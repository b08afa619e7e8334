"""Assembles the features service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from headrace.api.features.v1 import features_pb2
from headrace.hop.breaker import Breaker
from headrace.hop.config import ConfigError
from headrace.hop.definition import Definition, Runtime, Service
from services.features.config import FeaturesConfig
from services.features.metrics import FeaturesMetrics
from services.features.ports import StoreError
from services.features.reading import Clocks, Reader
from services.features.refreshing import Catalog
from services.features.remembering import Memory
from services.features.servicer import FeaturesServicer

if TYPE_CHECKING:
    from services.features.feast_store import FeastStore

WALL = time.time  # noqa: TID251 - ages are counted from event times


@asynccontextmanager
async def build(config: FeaturesConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """Opens the feature store and reads its registry; a store that is down is no obstacle."""
    telemetry = runtime.telemetry
    metrics = telemetry.once(FeaturesMetrics)
    memory = Memory(config.stale_entries)
    metrics.remembered.set_function(lambda: len(memory))
    # The registry has a thread of its own: a hanging store must not keep it from being read, or the reverse.
    reading = ThreadPoolExecutor(config.threads, "features-read")
    planning = ThreadPoolExecutor(1, "features-plan")
    try:
        store = await asyncio.get_running_loop().run_in_executor(planning, _open, config)
        catalog = Catalog(
            store, planning, telemetry.log, lambda outcome: metrics.refreshes.labels(outcome).inc()
        )
        await catalog.load()
    except StoreError as error:
        planning.shutdown(wait=False)
        raise ConfigError(f"features: {error}; is `repo` a prepared Feast repository?") from error
    breaker = Breaker(config.breaker, time.monotonic())
    clocks = Clocks(time.monotonic, WALL)
    reader = Reader(store, reading, breaker, memory, metrics, clocks, config.read_timeout_s)
    following = asyncio.create_task(catalog.follow(config.refresh_s))
    descriptor = features_pb2.DESCRIPTOR.services_by_name["FeaturesService"]
    try:
        yield [Service(descriptor, FeaturesServicer(catalog, reader))]
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        for threads in (reading, planning):
            threads.shutdown(wait=False, cancel_futures=True)


def _open(config: FeaturesConfig) -> FeastStore:
    # Feast takes three seconds to import: not while the event loop waits.
    from services.features.feast_store import FeastStore

    return FeastStore(config.repo, config.store_timeout_s)


SERVICE = Definition("features", FeaturesConfig, build)
