"""What the router is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from headrace.api.router.v1 import router_pb2
from headrace.hop.client.dial import Client
from headrace.hop.definition import Definition, Runtime, Service
from headrace.pipeline import Catalog, Kept
from services.router.clients import HopExecutorReplicas
from services.router.config import RouterSettings, router_config
from services.router.inference import Inference
from services.router.metrics import Metrics
from services.router.operations.documents import DocumentReloader
from services.router.operations.models import ModelOperations
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
        kept = Kept(settings.kept, writes=True) if settings.kept else None
        catalog = await asyncio.to_thread(Catalog, settings.pipelines, accept=compiler.accept, kept=kept)
        pipelines = Pipelines(compiler)
        reloader = DocumentReloader(
            catalog, pipelines, metrics, runtime.telemetry.log, settings.reload_every_s
        )
        counters = Counters()
        tasks = [asyncio.create_task(reloader.run())]
        if settings.monitoring is not None:
            monitoring = runtime.dial("monitoring", settings.monitoring)
            stack.push_async_callback(monitoring.close)
            reporter = Reporter(
                counters,
                HopMonitoring(monitoring),
                metrics,
                runtime.telemetry.log,
                time.monotonic,
                settings.tick_s,
            )
            tasks.append(asyncio.create_task(reporter.run()))
            stack.push_async_callback(reporter.close)
        try:
            inference = Inference(pipelines, reloader.refresh, metrics, time.monotonic, counters)
            executor = clients.get("executor")
            models = ModelOperations(HopExecutorReplicas(executor) if executor else None)
            descriptor = router_pb2.DESCRIPTOR.services_by_name["RouterService"]
            yield [Service(descriptor, RouterServicer(inference, pipelines, models), takes_payload=True)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


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
