"""Assembles the ingress. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from headrace.api.inference.v1 import inference_pb2
from headrace.api.operations.v1 import operations_pb2
from headrace.api.releases.v1 import releases_pb2
from headrace.hop import config
from headrace.hop.definition import Runtime
from headrace.hop.process import grpc_core
from headrace.hop.process.heartbeat import beating
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.hosting import Part, definition_named, hosted
from headrace.hop.transport.in_process import LocalServers
from headrace.oip import open_inference_pb2
from headrace.pipeline import Catalog as Documents
from headrace.pipeline import Kept
from headrace.releases import open_catalog
from headrace.releases.records import RecordedReleases, open_recorded
from headrace.state.tenants import read_pepper
from services.ingress.admission.admission_control import AdmissionControl, AdmissionRules
from services.ingress.admission.extraction_guard import ExtractionGuard
from services.ingress.admission.quotas import Quotas, SharedQuotas
from services.ingress.attributes import Attributes
from services.ingress.auth.authenticator import Authenticator
from services.ingress.auth.tokens import TokenVerifier
from services.ingress.clients import HopModelOperations, HopOutcomes, HopRouter, HopServing, HopShadowReports
from services.ingress.config import IngressSettings
from services.ingress.documents.catalog import Catalog
from services.ingress.documents.reloads import DocumentMetrics, DocumentReloads, Source, TenantReloads
from services.ingress.documents.watch import PeriodicTasks
from services.ingress.door import Door, operations
from services.ingress.envoy.certificates import CertificateReloads
from services.ingress.envoy.drain import AdminPort
from services.ingress.envoy.readiness import Readiness
from services.ingress.idempotency.calls import IdempotentCalls
from services.ingress.idempotency.meter import KeyMetrics
from services.ingress.inference import InferenceRunner
from services.ingress.oip.repository import ModelRepository
from services.ingress.oip.service import OpenInference
from services.ingress.operations.servicer import OperationsServicer
from services.ingress.ports import Log
from services.ingress.predict.outcomes import OutcomesServicer
from services.ingress.predict.service import InferenceServicer
from services.ingress.releases.desk import Desk
from services.ingress.releases.service import ReleaseServicer
from services.ingress.reporting.metrics import Metrics
from services.ingress.reporting.otlp import OtlpExporter
from services.ingress.reporting.reporter import Exporter, Reporter
from services.ingress.reporting.security_log import SecurityLog
from services.ingress.reporting.span_store import SpanStore
from services.ingress.reporting.statistics import Statistics

_FLUSH_EVERY_S = 0.5
# Each takes some milliseconds.
_COLLECT_EVERY_S = 10.0
_LOOK_EVERY_S = 0.25
OIP_SERVICE = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
RELEASE_SERVICE = releases_pb2.DESCRIPTOR.services_by_name["ReleaseService"]
INFERENCE_SERVICE = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"]
OPERATIONS_SERVICE = operations_pb2.DESCRIPTOR.services_by_name["OperationsService"]


@dataclass(frozen=True, slots=True)
class Ingress:
    """The assembled parts that the protocols need."""

    door: Door
    open_inference: OpenInference
    inference: InferenceServicer
    readiness: Readiness


@asynccontextmanager
async def assembled(settings: IngressSettings, runtime: Runtime) -> AsyncIterator[Ingress]:
    """Opens everything that the door needs, and closes it at the end. Raises ConfigError."""
    telemetry = runtime.telemetry
    wall = time.time  # noqa: TID251 - the real clock is chosen here and passed to all parts
    metrics, statistics = telemetry.once(Metrics), Statistics(wall)
    told = _Told(telemetry.log, metrics)
    security = SecurityLog(
        settings.security.file, settings.security.max_bytes, settings.security.kept, wall, told.security_log
    )
    metrics.security_waiting.set_function(lambda: security.waiting)
    reporter = Reporter(
        telemetry.log,
        metrics,
        statistics,
        _exporters(settings),
        security,
        log_ratio=settings.log_ratio,
        slow_s=settings.traces.slow_s,
        clock=time.monotonic,
        wall=wall,
    )
    tenants = TenantReloads(
        settings.tenants, settings.tenants_kept, telemetry.log, metrics.tenants_broken.set
    )
    tokens = TokenVerifier(settings.jwt, lambda: tenants.directory, wall) if settings.jwt else None
    pepper = read_pepper(settings.pepper)
    authenticator = Authenticator(tenants.directory, pepper, wall, reporter.security, tokens)
    sharing = SharedQuotas(settings.quotas, Quotas(time.monotonic), telemetry.log)
    quotas = sharing.quotas
    guard = ExtractionGuard(settings.queries, pepper, wall, reporter.security, told.guard)
    tenants.subscribe(
        authenticator.replace,
        lambda d: quotas.keep_only(set(d.tenants)),
        lambda d: guard.keep_only(set(d.tenants)),
    )
    documents = _documents(settings)
    catalog = Catalog(documents.pipelines, documents.unusable)
    async with AsyncExitStack() as stack:
        stack.callback(sharing.close)
        client = runtime.dial("router", settings.router)
        stack.push_async_callback(client.close)
        serving = HopServing(client, time.monotonic) if settings.releases else None
        reloads = DocumentReloads(documents, catalog, telemetry.log, telemetry.once(DocumentMetrics), serving)
        runner = InferenceRunner(
            HopRouter(client),
            settings.limits.max_rows,
            settings.limits.min_budget_s,
            guard,
            time.monotonic,
            Attributes(settings.attributes) if settings.attributes else None,
        )
        keys = settings.idempotency.store(time.monotonic, wall)
        stack.push_async_callback(keys.close)
        keyed = IdempotentCalls(
            keys,
            telemetry.once(KeyMetrics),
            telemetry.log,
            settings.idempotency.lease_s,
            time.monotonic,
        )
        readiness = Readiness(AdminPort(settings.admin).ask, time.monotonic)
        oip = OpenInference(catalog, runner, statistics, readiness.ready, keyed)
        repository = ModelRepository(
            HopModelOperations(client),
            time.monotonic,
            reaches_all=settings.workers == 1 or not settings.together,
        )
        own = InferenceServicer(catalog, runner, keyed)
        outcomes = OutcomesServicer(_outcomes(settings, runtime, stack), time.monotonic, wall)
        desk = Desk(
            _changing(settings, telemetry.log), HopModelOperations(client), telemetry.log, time.monotonic
        )
        stack.push_async_callback(desk.close)
        operators = OperationsServicer(HopShadowReports(client), time.monotonic)
        served = {
            **operations(OIP_SERVICE, oip, repository),
            **operations(INFERENCE_SERVICE, own, outcomes),
            **operations(RELEASE_SERVICE, ReleaseServicer(desk)),
            **operations(OPERATIONS_SERVICE, operators),
        }
        admission = AdmissionControl(AdmissionRules(**dict(settings.admission)), time.monotonic)
        metrics.limit.set_function(lambda: admission.limit)
        door = Door(
            served, authenticator, reporter, quotas, admission, telemetry.settings.trace_ratio, time.monotonic
        )
        stack.push_async_callback(reporter.flush)
        stack.push_async_callback(security.close)
        periodic = PeriodicTasks(telemetry.log, asyncio.sleep)
        stack.push_async_callback(periodic.close)
        periodic.every(settings.reload_s, tenants.check)
        periodic.every(settings.reload_s, reloads.check)
        periodic.every(_FLUSH_EVERY_S, reporter.flush)
        periodic.every(_COLLECT_EVERY_S, grpc_core.collect)
        periodic.every(_COLLECT_EVERY_S, keys.purge)
        if settings.http.tls:
            certificate = CertificateReloads(
                settings.http, settings.run_dir, telemetry.log, metrics.certificate_ends.set
            )
            await periodic.once(certificate.check)
            periodic.every(settings.reload_s, certificate.check)
        periodic.every(_FLUSH_EVERY_S, security.flush)
        if settings.quotas is not None:
            await sharing.look()
            periodic.every(_LOOK_EVERY_S, sharing.look)
        if settings.jwt is not None and tokens is not None:
            await periodic.once(tokens.refresh)
            periodic.every(settings.jwt.refresh_s, tokens.refresh)
        yield Ingress(door, oip, own, readiness)


def _documents(settings: IngressSettings) -> Source:
    """What is live, as the settings say. Raises ConfigError."""
    if settings.releases is not None:
        return open_catalog(settings.releases, settings.kept)
    assert settings.pipelines is not None, "the settings have one of them"
    return Documents(
        settings.pipelines, kept=Kept(settings.kept, writes=settings.keeps) if settings.kept else None
    )


def _changing(settings: IngressSettings, log: Log) -> RecordedReleases | None:
    """The store for operators, who change what is live. Raises ConfigError."""
    if settings.releases is None:
        return None

    def complain(text: str) -> None:
        log.warning("the webhook of releases was not told", problem=text)

    return open_recorded(settings.releases, settings.release_records, complain)


@asynccontextmanager
async def hosting(settings: IngressSettings) -> AsyncIterator[Runtime]:
    """The runtime of this process, with the services of `settings.together` in it. They are found by entry point.

    Raises config.ConfigError for a service that is not installed, or for settings that it does not accept.
    """
    parts = [_part(name, values) for name, values in settings.together.items()]
    telemetry = Telemetry("ingress", settings.telemetry)
    telemetry.take_over_logs()
    local = LocalServers(telemetry)
    try:
        async with hosted(parts, telemetry, local):
            with beating(telemetry):
                yield Runtime("ingress", telemetry, local)
    finally:
        await telemetry.close()


def _outcomes(settings: IngressSettings, runtime: Runtime, stack: AsyncExitStack) -> HopOutcomes | None:
    """Where outcomes are stored; None: the settings name no such service. `stack` closes its client."""
    if settings.monitoring is None:
        return None
    client = runtime.dial("monitoring", settings.monitoring)
    stack.push_async_callback(client.close)
    return HopOutcomes(client)


def _part(name: str, values: dict[str, object]) -> Part:
    definition = definition_named(name)
    try:
        settings: config.ServiceSettings = definition.config.model_validate(values)
    except ValidationError as error:
        wrong = [f"{'.'.join(('together', name, *map(str, e['loc'])))}: {e['msg']}" for e in error.errors()]
        raise config.ConfigError("; ".join(wrong)) from error
    return definition, settings


@dataclass(frozen=True, slots=True)
class _Told:
    """Logs that data which should be kept on the disk can't be kept there."""

    log: Log
    metrics: Metrics

    def security_log(self, error: BaseException | None) -> None:
        self.metrics.security_failing.set(error is not None)
        if error is None:
            self.log.info("security events are written again")
        else:
            self.log.error("security events wait: their file can't be written", error=str(error))

    def guard(self, error: OSError) -> None:
        self.log.error("different queries are counted in memory alone", error=str(error))


def _exporters(settings: IngressSettings) -> list[Exporter]:
    exporters: list[Exporter] = []
    traces = settings.traces
    if traces.folder is not None:
        exporters.append(SpanStore(traces.folder, traces.segment_bytes, traces.segments))
    if settings.telemetry.otlp_endpoint:
        exporters.append(OtlpExporter(settings.telemetry.otlp_endpoint))
    return exporters
