"""What the router is made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import Any

from headrace.api.router.v1 import router_pb2
from headrace.hop.client.dial import Client
from headrace.hop.client.observer import ClientObserver
from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.process.background import running
from headrace.hop.process.telemetry import build_version
from headrace.repository.model_index import MODEL
from headrace.resources.releases import ReleaseCatalog, followed_indexes, release_compiler
from headrace.resources.service import control_client, followed
from services.router.cache.clients import shared_answers
from services.router.cache.meter import CacheMetrics
from services.router.cache.route import AnswerCaches
from services.router.config import RouterSettings, router_config
from services.router.explanations.wiring import explanations
from services.router.facts.wiring import facts
from services.router.inference import Inference
from services.router.metrics import Metrics
from services.router.operations.clients import ModelOperations
from services.router.operations.documents import DocumentReloader
from services.router.operations.readiness import ModelReadiness
from services.router.pipelines import Compiler, Pipelines
from services.router.routes.observer import RunObserver
from services.router.routes.partition import healthy_replicas
from services.router.servicer import RouterServicer
from services.router.shadow.metrics import ShadowMetrics
from services.router.shadow.run import ShadowObserver
from services.router.shadow.shadows import Shadows
from services.router.stages.registry import callees, connected
from services.router.stages.runner import RunnerFactory


@asynccontextmanager
async def build(settings: RouterSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service. Raises ConfigError."""
    async with AsyncExitStack() as stack:
        metrics = runtime.telemetry.once(Metrics)
        clients = _dialled(settings, runtime, stack)
        caches = _caches(settings, runtime, stack)
        executor = clients.get("executor")
        # Closed after the shadows have stopped, which are entered later.
        shadow_clients = await stack.enter_async_context(AsyncExitStack())
        compiler = Compiler(
            connected(clients, settings, time.monotonic),
            _shadow_runners(settings, runtime, shadow_clients),
            caches,
            partial(healthy_replicas, executor, time.monotonic) if executor else None,
            time.monotonic,
        )
        compilers = {"release": release_compiler(compiler.accept)}
        control = await stack.enter_async_context(control_client(settings.control, runtime))
        follower = await stack.enter_async_context(
            followed("router", settings.resources, control, runtime, compilers, data=(MODEL,))
        )
        assert follower is not None, "the settings say what is followed"
        source, indexes = ReleaseCatalog(follower), followed_indexes(follower)
        pipelines = Pipelines(compiler, time.monotonic)
        models = ModelOperations(executor, caches.forget)
        readiness = ModelReadiness(models, time.monotonic) if executor else None
        log = runtime.telemetry.log
        reloader = DocumentReloader(source, pipelines, metrics, log, readiness)
        await stack.enter_async_context(running(reloader.run(), "releases", log))
        told = await stack.enter_async_context(
            facts(
                settings.events,
                settings.tick_s,
                settings.monitoring,
                runtime,
                metrics,
                pipelines.share,
            )
        )
        shadows = await stack.enter_async_context(_shadows(settings, runtime, told.shadows))
        explained = await stack.enter_async_context(
            explanations(settings.explanations, told, runtime, compiler, pipelines, shadows, indexes)
        )
        observers: list[RunObserver] = [shadows, *told.observers]
        refresh = partial(reloader.refresh, must_wait=False)
        inference = Inference(
            pipelines, refresh, metrics, time.monotonic, observers, told.counters, told.commits
        )
        descriptor = router_pb2.DESCRIPTOR.services_by_name["RouterService"]
        servicer = RouterServicer(inference, pipelines, models, explained, told.notes)
        yield [Service(descriptor, servicer, takes_payload=True, ready=reloader.ready)]


def _caches(settings: RouterSettings, runtime: Runtime, stack: AsyncExitStack) -> AnswerCaches:
    """The kept answers; `stack` closes the connection to those that several routers share."""
    metrics = runtime.telemetry.once(CacheMetrics)
    shared = shared_answers(settings.cache, metrics, time.monotonic)
    if shared is not None:
        stack.push_async_callback(shared.close)
    return AnswerCaches(metrics, build_version(), shared)


def _dialled(settings: RouterSettings, runtime: Runtime, stack: AsyncExitStack) -> dict[str, Client]:
    """A client of each service that stages call and the settings name; `stack` closes them."""
    clients: dict[str, Client] = {}
    for callee in callees():
        client = settings.client(callee)
        if client is not None:
            clients[callee] = runtime.dial(callee, client)
            stack.push_async_callback(clients[callee].close)
    return clients


def _shadow_runners(
    settings: RouterSettings, runtime: Runtime, stack: AsyncExitStack
) -> Callable[[], Mapping[str, RunnerFactory]]:
    """Makes the runners of shadows, with clients of their own, when there is a first shadow; `stack` closes them.

    So a shadow that fails opens no breaker and uses up no retries of live calls; its own calls are never retried, and not in the
    metrics of clients, which have one client for each callee.
    """

    @cache
    def made() -> Mapping[str, RunnerFactory]:
        clients: dict[str, Client] = {}
        for callee in callees():
            found = settings.client(callee)
            if found is not None:
                once = found.model_copy(update={"retry": found.retry.model_copy(update={"attempts": 1})})
                clients[callee] = Client(callee, once, runtime, observer=ClientObserver())
                stack.push_async_callback(clients[callee].close)
        return connected(clients, settings, time.monotonic)

    return made


@asynccontextmanager
async def _shadows(
    settings: RouterSettings, runtime: Runtime, observer: ShadowObserver | None
) -> AsyncIterator[Shadows]:
    """Runs what is copied to shadows meanwhile."""
    log = runtime.telemetry.log
    metrics = runtime.telemetry.once(ShadowMetrics)
    shadows = Shadows(settings.shadow, metrics, time.monotonic, log, observer)
    async with running(shadows.run(), "shadows", log):
        yield shadows


def definition() -> Definition[Any]:
    """The router, with the kinds of stages that are registered."""
    return Definition("router", router_config(), build)


SERVICE = definition()
