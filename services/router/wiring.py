"""What the router is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from headrace.api.router.v1 import router_pb2
from headrace.hop import config
from headrace.hop.client.dial import Client
from headrace.hop.definition import Definition, Runtime, Service
from headrace.pipeline import Catalog, Kept
from services.router.clients import FORMAT, TRANSFORM, HopExecutor, HopFeatures, HopOperators, HopSteps
from services.router.config import RouterConfig
from services.router.inferring import Inferring
from services.router.metrics import Metrics
from services.router.operating import Operating
from services.router.pipelines import Compiler, Pipelines
from services.router.ports import Services
from services.router.reloading import Reloading
from services.router.routing import FirstRoute
from services.router.servicer import RouterServicer


@asynccontextmanager
async def build(settings: RouterConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service."""
    async with AsyncExitStack() as stack:
        metrics = runtime.telemetry.once(Metrics)
        callees = _dialled(settings, runtime, stack)
        compiler = Compiler(callees, settings.features_timeout_s, time.monotonic)
        kept = Kept(settings.kept, writes=True) if settings.kept else None
        catalog = await asyncio.to_thread(Catalog, settings.pipelines, accept=compiler.accept, kept=kept)
        pipelines = Pipelines(compiler)
        reloading = Reloading(catalog, pipelines, metrics, runtime.telemetry.log, settings.reload_every_s)
        watch = asyncio.create_task(reloading.run())
        try:
            inferring = Inferring(pipelines, reloading.refresh, FirstRoute(), metrics, time.monotonic)
            descriptor = router_pb2.DESCRIPTOR.services_by_name["RouterService"]
            servicer = RouterServicer(inferring, pipelines, Operating(callees.operators))
            yield [Service(descriptor, servicer, takes_payload=True)]
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch


def _dialled(settings: RouterConfig, runtime: Runtime, stack: AsyncExitStack) -> Services:
    def dial(callee: str, client: config.ClientSettings | None) -> Client | None:
        if client is None:
            return None
        dialled = runtime.dial(callee, client)
        stack.push_async_callback(dialled.close)
        return dialled

    features = dial("features", settings.features)
    preprocessing = dial("preprocessing", settings.preprocessing)
    executor = dial("executor", settings.executor)
    postprocessing = dial("postprocessing", settings.postprocessing)
    return Services(
        HopFeatures(features) if features else None,
        HopSteps(preprocessing, TRANSFORM) if preprocessing else None,
        HopExecutor(executor) if executor else None,
        HopSteps(postprocessing, FORMAT) if postprocessing else None,
        HopOperators(executor) if executor else None,
    )


SERVICE = Definition("router", RouterConfig, build)
