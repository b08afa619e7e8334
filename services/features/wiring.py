"""Assembles the features service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from headrace.api.features.v1 import features_pb2
from headrace.hop.client.settings import BreakerRules
from headrace.hop.config import ConfigError
from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.process.background import running
from headrace.hop.resilience.breaker import Breaker
from services.features.cache.cache import RowCache
from services.features.cache.fetcher import Fetcher
from services.features.config import FeaturesConfig, Stream
from services.features.freshness.on_demand import OnDemandRunner
from services.features.metrics import FeaturesMetrics
from services.features.plan.catalog import Catalog
from services.features.reader import Reader
from services.features.servicer import FeaturesServicer
from services.features.stores.online_store import StoreError
from services.features.stores.registry import open_feast
from services.features.warm_up import warm_up

if TYPE_CHECKING:
    from services.features.stream.consumer import StreamConsumer

WALL = time.time  # noqa: TID251 - ages are counted from event times
# Large batches that are read from SQLite at the same time.
_READERS = 2
# A store that fails is left alone for half a second at first: values are at hand, and it may be back as soon.
_BREAKER = BreakerRules(window_s=2.0, min_calls=3, slow_s=0.3, open_s=0.5, max_open_s=1.0, probes=1)


@asynccontextmanager
async def build(config: FeaturesConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """Opens the feature store and reads its registry. A store that is down does not stop the start."""
    telemetry = runtime.telemetry
    metrics = telemetry.once(FeaturesMetrics)
    memory = RowCache(config.memory_bytes)
    # The registry has its own thread: a store that hangs must not block reading the registry, nor the reverse.
    reading = ThreadPoolExecutor(_READERS, "features-read")
    planning = ThreadPoolExecutor(1, "features-plan")
    deriving = ThreadPoolExecutor(1, "features-derive")
    writing = ThreadPoolExecutor(1, "features-write")
    try:
        loop = asyncio.get_running_loop()
        registry, store = await loop.run_in_executor(
            planning, open_feast, config.repo, reading, config.store_timeout_s
        )
        catalog = Catalog(registry.plans, planning, telemetry.log)
        await catalog.load()
    except StoreError as error:
        planning.shutdown(wait=False)
        raise ConfigError(f"features: {error}; is `repo` a prepared Feast repository?") from error
    breaker = Breaker(_BREAKER, time.monotonic())
    fetcher = Fetcher(
        store, memory, breaker, metrics, time.monotonic, config.cache_s, telemetry.log, config.store_timeout_s
    )
    deriver = OnDemandRunner(deriving, metrics)
    reader = Reader(fetcher, deriver, metrics, config.store_timeout_s, time.monotonic, WALL)
    good_s, limit_s = config.store_timeout_s / 2, config.warm_up_s
    await warm_up(
        store, catalog.plans.values(), time.monotonic, telemetry.log, good_s=good_s, limit_s=limit_s
    )
    works = {"registry": catalog.follow(config.refresh_s)}
    if config.stream is not None:
        consumer = await loop.run_in_executor(
            planning, _consumer, config.stream, config.repo, writing, metrics, telemetry.log
        )
        works["feature events"] = consumer.follow()
    descriptor = features_pb2.DESCRIPTOR.services_by_name["FeaturesService"]
    try:
        async with AsyncExitStack() as stack:
            for name, work in works.items():
                await stack.enter_async_context(running(work, name, telemetry.log))
            yield [Service(descriptor, FeaturesServicer(catalog, reader), takes_payload=True)]
    finally:
        await store.close()
        for threads in (reading, planning, deriving, writing):
            threads.shutdown(wait=False, cancel_futures=True)


def _consumer(stream: Stream, *more: Any) -> StreamConsumer:
    # Imports Feast, which takes seconds.
    from services.features.stream.consumer import StreamConsumer

    return StreamConsumer(stream, *more)


SERVICE = Definition("features", FeaturesConfig, build)
