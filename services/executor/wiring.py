"""Assembles the executor."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from headrace.api.executor.v1 import executor_pb2
from headrace.hop.config import ConfigError
from headrace.hop.definition import Definition, Runtime, Service
from headrace.repository import AccessLog, Repository, RepositoryError, Trust
from headrace.repository.model_index import MODEL, Indexes
from headrace.repository.records import Records
from headrace.resources.follower import Follower
from headrace.resources.releases import ReleaseCatalog, followed_indexes, release_compiler
from headrace.resources.service import control_client, followed, has_view
from services.executor.backends.backend import Environment
from services.executor.backends.registry import factories
from services.executor.backends.servers import Servers
from services.executor.config import ExecutorConfig
from services.executor.execution.runner import RunnerContext
from services.executor.lifecycle.activation import Activator
from services.executor.lifecycle.loader import Loader
from services.executor.lifecycle.models import Models
from services.executor.lifecycle.released import ReleasedVersions
from services.executor.lifecycle.warm_up import warm_up_calls
from services.executor.metrics import Metrics
from services.executor.scheduling.run_time import Watchdog
from services.executor.servicer import ExecutorServicer

# A run on the event loop that hangs blocks the whole process. It is ended after this time, and repeated on a thread.
_HANGS_S = 0.5
# A run that ends on a thread waits this long for the interpreter lock if the event loop is busy. At three quarters of the
# capacity p99 was 29 ms with Python's 5 ms, and is 5 ms with this (flights_heavy, 16 rows a call).
_SWITCH_S = 0.0002


@asynccontextmanager
async def build(config: ExecutorConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """Loads and warms up the models, then serves them; unusable ones are in quarantine.

    Raises ConfigError if the repository can't be read.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, _SWITCH_S))
    telemetry = runtime.telemetry
    metrics, log = telemetry.once(Metrics), telemetry.log
    watchdog = Watchdog(min(config.run_timeout_s, _HANGS_S))
    servers = Servers(config.servers, runtime, asyncio.get_running_loop())
    context = RunnerContext(
        metrics, log, watchdog, config.inline_us / 1e6, config.run_timeout_s, config.patience_s
    )
    records = Records(config.state, log.error)
    stack = AsyncExitStack()
    control = await stack.enter_async_context(control_client(config.control, runtime))
    follower = await stack.enter_async_context(
        followed(
            "executor", config.resources, control, runtime, {"release": release_compiler()}, data=(MODEL,)
        )
    )
    catalog = ReleaseCatalog(follower) if follower else None
    released = ReleasedVersions(catalog, time.monotonic)
    repository = _repository(config, followed_indexes(follower))
    backends = factories(Environment(config, servers))
    activator = Activator(repository, backends, config, metrics, log)
    loader = Loader(activator, records, config, log, released)
    budget = config.memory_budget_mib
    models = Models(loader, records, context, None if budget is None else budget << 20, config.start_s)
    if follower is not None:
        loop = asyncio.get_running_loop()
        follower.on_change(lambda: loop.call_soon_threadsafe(released.changed.set))
    try:
        try:
            await models.open()
        except RepositoryError as error:
            raise ConfigError(f"models: {error}") from error
        descriptor = executor_pb2.DESCRIPTOR.services_by_name["ExecutorService"]
        servicer = ExecutorServicer(models)
        warm = partial(warm_up_calls, servicer.call_serialized, models, metrics)
        ready = partial(_ready, follower, models) if follower else None
        yield [Service(descriptor, servicer, takes_payload=True, warm_up=warm, ready=ready)]
    finally:
        await models.close()
        await stack.aclose()
        await servers.close()
        await asyncio.to_thread(watchdog.close)
        sys.setswitchinterval(interval)


async def _ready(follower: Follower, models: Models) -> None:
    await has_view(follower)()
    await models.settled()


def _repository(config: ExecutorConfig, index: Indexes | None) -> Repository:
    log = None if config.access_log is None else AccessLog(config.access_log, "executor")
    trust = None if config.trust is None else Trust(config.trust.keys, config.trust.accept_unsigned)
    return Repository(config.models, trust=trust, index=index, log=log)


SERVICE = Definition("executor", ExecutorConfig, build)
