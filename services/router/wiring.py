"""What the router is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from headrace.api.router.v1 import router_pb2
from headrace.hop.client.dial import Client
from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.process.telemetry import build_version
from headrace.pipeline import Catalog, Kept
from services.router.cache.meter import CacheMetrics
from services.router.cache.route import AnswerCaches
from services.router.cache.shared import shared_answers
from services.router.clients import HopExecutorReplicas
from services.router.config import RouterSettings, router_config
from services.router.inference import Inference
from services.router.metrics import Metrics
from services.router.operations.documents import DocumentReloader
from services.router.operations.models import ModelOperations
from services.router.pipelines import Compiler, Pipelines
from services.router.servicer import RouterServicer
from services.router.stages.registry import callees, connected


@asynccontextmanager
async def build(settings: RouterSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service."""
    async with AsyncExitStack() as stack:
        metrics = runtime.telemetry.once(Metrics)
        clients = _dialled(settings, runtime, stack)
        cache_metrics = runtime.telemetry.once(CacheMetrics)
        shared = shared_answers(settings.cache, cache_metrics, time.monotonic)
        if shared is not None:
            stack.push_async_callback(shared.close)
        caches = AnswerCaches(cache_metrics, build_version(), shared)
        compiler = Compiler(connected(clients, settings, time.monotonic), caches)
        kept = Kept(settings.kept, writes=True) if settings.kept else None
        catalog = await asyncio.to_thread(Catalog, settings.pipelines, accept=compiler.accept, kept=kept)
        pipelines = Pipelines(compiler)
        reloader = DocumentReloader(
            catalog, pipelines, metrics, runtime.telemetry.log, settings.reload_every_s
        )
        reloads = asyncio.create_task(reloader.run())
        try:
            inference = Inference(pipelines, reloader.refresh, metrics, time.monotonic)
            executor = clients.get("executor")
            models = ModelOperations(HopExecutorReplicas(executor) if executor else None, caches.forget)
            descriptor = router_pb2.DESCRIPTOR.services_by_name["RouterService"]
            yield [Service(descriptor, RouterServicer(inference, pipelines, models), takes_payload=True)]
        finally:
            reloads.cancel()
            with suppress(asyncio.CancelledError):
                await reloads


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
