"""What the router is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from headrace.api.router.v1 import router_pb2
from headrace.hop.client.dial import Client
from headrace.hop.definition import Definition, Runtime, Service
from headrace.pipeline import Catalog, Kept
from headrace.releases import open_catalog
from services.router.clients import HopExecutorReplicas
from services.router.config import RouterSettings, router_config
from services.router.inference import Inference
from services.router.metrics import Metrics
from services.router.operations.documents import DocumentReloader
from services.router.operations.models import ModelOperations
from services.router.operations.readiness import ModelReadiness
from services.router.operations.sources import FolderSource, Source
from services.router.pipelines import Compiler, Pipelines
from services.router.servicer import RouterServicer
from services.router.stages.registry import callees, connected
from services.router.ticks.clients import HopMonitoring
from services.router.ticks.counters import Counters
from services.router.ticks.reporter import Reporter


@asynccontextmanager
async def build(settings: RouterSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service."""
    async with AsyncExitStack() as stack:
        metrics = runtime.telemetry.once(Metrics)
        clients = _dialled(settings, runtime, stack)
        compiler = Compiler(connected(clients, settings, time.monotonic))
        source = await asyncio.to_thread(_source, settings, compiler)
        pipelines = Pipelines(compiler)
        executor = clients.get("executor")
        models = ModelOperations(HopExecutorReplicas(executor) if executor else None)
        readiness = ModelReadiness(models, time.monotonic) if executor else None
        log = runtime.telemetry.log
        reloader = DocumentReloader(source, pipelines, metrics, log, settings.reload_every_s, readiness)
        counters = Counters()
        await stack.enter_async_context(_reports(settings, runtime, counters, metrics))
        reloads = asyncio.create_task(reloader.run())
        try:
            refresh = partial(reloader.refresh, must_wait=False)
            inference = Inference(pipelines, refresh, metrics, time.monotonic, counters)
            descriptor = router_pb2.DESCRIPTOR.services_by_name["RouterService"]
            yield [Service(descriptor, RouterServicer(inference, pipelines, models), takes_payload=True)]
        finally:
            source.close()
            reloads.cancel()
            with suppress(asyncio.CancelledError):
                await reloads


@asynccontextmanager
async def _reports(
    settings: RouterSettings, runtime: Runtime, counters: Counters, metrics: Metrics
) -> AsyncIterator[None]:
    """Tells the monitoring service, if the settings name it, what was counted; at the end also what is left."""
    if settings.monitoring is None:
        yield
        return
    client = runtime.dial("monitoring", settings.monitoring)
    monitoring, log = HopMonitoring(client), runtime.telemetry.log
    reporter = Reporter(counters, monitoring, metrics, log, time.monotonic, settings.tick_s)
    reports = asyncio.create_task(reporter.run())
    try:
        yield
    finally:
        reports.cancel()
        await asyncio.gather(reports, return_exceptions=True)
        await reporter.close()
        await client.close()


def _source(settings: RouterSettings, compiler: Compiler) -> Source:
    """What is live, as the settings say. Reads it once."""
    if settings.releases is not None:
        return open_catalog(settings.releases, settings.kept, compiler.accept)
    assert settings.pipelines is not None, "the settings have one of them"
    kept = Kept(settings.kept, writes=True) if settings.kept else None
    return FolderSource(Catalog(settings.pipelines, accept=compiler.accept, kept=kept))


def _dialled(settings: RouterSettings, runtime: Runtime, stack: AsyncExitStack) -> dict[str, Client]:
    """A client of each service that stages call and the settings name; `stack` closes them."""
    clients: dict[str, Client] = {}
    for callee in callees():
        client = settings.client(callee)
        if client is not None:
            clients[callee] = runtime.dial(callee, client)
            stack.push_async_callback(clients[callee].close)
    return clients


def definition() -> Definition[Any]:
    """The router, with the kinds of stages that are registered."""
    return Definition("router", router_config(), build)


SERVICE = definition()
