"""Assembles the ingress. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from headrace.api.inference.v1 import inference_pb2
from headrace.hop.config import ConfigError
from headrace.hop.definition import Runtime
from headrace.oip import open_inference_pb2
from headrace.pipeline import Catalog as Documents
from headrace.pipeline import Kept
from headrace.state.tenants import load, read_pepper
from services.ingress.admitting import Admission, Rules
from services.ingress.authenticating import Authenticator
from services.ingress.catalog import Catalog
from services.ingress.clients import HopModelOperations, HopRouter
from services.ingress.config import IngressSettings
from services.ingress.door import Door, operations
from services.ingress.inferring import Inferring
from services.ingress.metrics import Metrics
from services.ingress.otlp import OtlpExporter
from services.ingress.quotas import Quotas
from services.ingress.readiness import Readiness
from services.ingress.reloading import DocumentMetrics, DocumentReloads, Periodic, TenantReloads
from services.ingress.reporting import Exporter, Reporter
from services.ingress.servicers.inference import Inference
from services.ingress.servicers.model_repository import ModelRepository
from services.ingress.servicers.open_inference import OpenInference
from services.ingress.sharing import Shared
from services.ingress.span_store import SpanStore
from services.ingress.statistics import Statistics
from services.ingress.stopping import AdminPort
from services.ingress.tenants import Directory
from services.ingress.tokens import TokenVerifier

_FLUSH_EVERY_S = 0.5
_LOOK_EVERY_S = 0.25
OIP_SERVICE = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
INFERENCE_SERVICE = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"]


@dataclass(frozen=True, slots=True)
class Ingress:
    """The assembled parts that the protocols need."""

    door: Door
    open_inference: OpenInference
    inference: Inference
    readiness: Readiness


@asynccontextmanager
async def assembled(settings: IngressSettings, runtime: Runtime) -> AsyncIterator[Ingress]:
    """Opens everything the door needs and closes it on the way out. Raises ConfigError."""
    telemetry = runtime.telemetry
    wall = time.time  # noqa: TID251 - the real clock is chosen here, and handed to whoever needs one
    metrics, statistics = telemetry.once(Metrics), Statistics(wall)
    reporter = Reporter(
        telemetry.log,
        metrics,
        statistics,
        _exporters(settings),
        log_ratio=settings.log_ratio,
        slow_s=settings.traces.slow_s,
        clock=time.monotonic,
        wall=wall,
    )
    tenants = TenantReloads(settings.tenants, Directory.of(load(settings.tenants)), telemetry.log)
    tokens = TokenVerifier(settings.jwt, lambda: tenants.directory, wall) if settings.jwt else None
    pepper = read_pepper(settings.pepper)
    authenticator = Authenticator(tenants.directory, pepper, wall, reporter.security, tokens)
    shared = _shared(settings)
    quotas = Quotas(time.monotonic, shared)
    tenants.subscribe(authenticator.replace, lambda d: quotas.keep_only(set(d.tenants)))
    kept = Kept(settings.kept, writes=settings.keeps) if settings.kept else None
    documents = Documents(settings.pipelines, kept=kept)
    catalog = Catalog(documents.pipelines, documents.unusable)
    reloads = DocumentReloads(documents, catalog, telemetry.log, telemetry.once(DocumentMetrics))
    async with AsyncExitStack() as stack:
        if shared is not None:
            stack.callback(shared.close)
        client = runtime.dial("router", settings.router)
        stack.push_async_callback(client.close)
        inferring = Inferring(
            HopRouter(client), settings.limits.max_rows, settings.limits.min_budget_s, time.monotonic
        )
        readiness = Readiness(AdminPort(settings.admin).ask, time.monotonic)
        oip = OpenInference(catalog, inferring, quotas, statistics, readiness.ready)
        repository = ModelRepository(
            HopModelOperations(client),
            quotas,
            time.monotonic,
            reaches_all=settings.workers == 1 or not settings.together,
        )
        own = Inference(catalog, inferring, quotas)
        served = {**operations(OIP_SERVICE, oip, repository), **operations(INFERENCE_SERVICE, own)}
        admission = Admission(Rules(**dict(settings.admission)), time.monotonic)
        metrics.limit.set_function(lambda: admission.limit)
        door = Door(
            served, authenticator, reporter, admission, telemetry.settings.trace_ratio, time.monotonic
        )
        stack.push_async_callback(reporter.flush)
        periodic = Periodic(telemetry.log, asyncio.sleep)
        stack.push_async_callback(periodic.close)
        periodic.every(settings.reload_s, tenants.check)
        periodic.every(settings.reload_s, reloads.check)
        periodic.every(_FLUSH_EVERY_S, reporter.flush)
        if shared is not None:
            periodic.every(_LOOK_EVERY_S, _looking(quotas))
        if settings.jwt is not None and tokens is not None:
            await periodic.once(tokens.refresh)
            periodic.every(settings.jwt.refresh_s, tokens.refresh)
        yield Ingress(door, oip, own, readiness)


def _shared(settings: IngressSettings) -> Shared | None:
    if settings.quotas is None:
        return None
    try:
        return Shared(settings.quotas)
    except OSError as error:
        raise ConfigError(f"quotas: {error}") from error


def _looking(quotas: Quotas) -> Callable[[], Awaitable[None]]:
    async def look() -> None:
        quotas.look()

    return look


def _exporters(settings: IngressSettings) -> list[Exporter]:
    exporters: list[Exporter] = []
    traces = settings.traces
    if traces.folder is not None:
        exporters.append(SpanStore(traces.folder, traces.segment_bytes, traces.segments))
    if settings.telemetry.otlp_endpoint:
        exporters.append(OtlpExporter(settings.telemetry.otlp_endpoint))
    return exporters
