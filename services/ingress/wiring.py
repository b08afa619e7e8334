"""Assembles the ingress. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from headrace.access.records import KEY, TENANT
from headrace.api.inference.v1 import inference_pb2
from headrace.api.operations.v1 import operations_pb2
from headrace.api.releases.v1 import releases_pb2
from headrace.catalog.remote import RemoteRecords
from headrace.hop import config
from headrace.hop.client.dial import Client
from headrace.hop.definition import Runtime
from headrace.hop.process import grpc_core
from headrace.hop.process.heartbeat import beating
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.hosting import Part, definition_named, hosted
from headrace.hop.transport.in_process import LocalServers
from headrace.oip import open_inference_pb2
from headrace.releases.of_records import RecordReleases
from headrace.resources.releases import ReleaseCatalog, release_compiler
from headrace.resources.service import control_client, followed
from services.ingress.admission.admission_control import AdmissionControl
from services.ingress.admission.extraction_guard import ExtractionGuard
from services.ingress.admission.quotas import Quotas
from services.ingress.admission.row_key import RowKey
from services.ingress.attributes import Attributes
from services.ingress.auth.authenticator import Authenticator
from services.ingress.auth.directory import LiveDirectory
from services.ingress.auth.encryption_guard import EncryptionGuard
from services.ingress.auth.tokens import TokenVerifier
from services.ingress.clients import HopAnswered, HopModelOperations, HopRouter, HopServing
from services.ingress.config import IngressSettings
from services.ingress.documents.catalog import Catalog
from services.ingress.documents.reloads import DocumentMetrics, DocumentReloads
from services.ingress.documents.watch import PeriodicTasks
from services.ingress.door import Door, Operation, operations
from services.ingress.envoy.certificates import CertificateReloads, secrets
from services.ingress.envoy.drain import AdminPort
from services.ingress.envoy.readiness import Readiness
from services.ingress.idempotency.calls import IdempotentCalls
from services.ingress.inference import InferenceRunner
from services.ingress.oip.groups.calls import MODEL_INFER, GroupedInfer
from services.ingress.oip.repository import ModelRepository
from services.ingress.oip.service import OpenInference
from services.ingress.operations.servicer import OperationsServicer
from services.ingress.predict.explain import EXPLAIN, ExplainServicer
from services.ingress.predict.outcomes import RECORD, OutcomesServicer
from services.ingress.predict.service import InferenceServicer
from services.ingress.protocols.arrivals import Arrivals
from services.ingress.releases.desk import Desk
from services.ingress.releases.service import ReleaseServicer
from services.ingress.reporting.answered import AnsweredEvents
from services.ingress.reporting.metrics import Metrics
from services.ingress.reporting.otlp import OtlpExporter
from services.ingress.reporting.reporter import Exporter, Reporter, Statistics
from services.ingress.reporting.security_log import SecurityLog
from services.ingress.reporting.span_store import SpanStore
from services.ingress.sharing.leases import EVERY_S, lease_source
from services.ingress.sharing.machine import MachineSource
from services.ingress.sharing.metrics import ShareMetrics
from services.ingress.sharing.share import Source as LimitSource

Clock = Callable[[], float]
_FLUSH_EVERY_S = 0.5
_COLLECT_EVERY_S = 10.0
_REFRESH_EVERY_S = 0.25
_READY_EVERY_S = 0.5
_ANSWERED_EVERY_S = 1.0
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


@dataclass(frozen=True, slots=True)
class _Tenants:
    """Who may call, and how much."""

    live: LiveDirectory
    tokens: TokenVerifier | None
    authenticator: Authenticator
    quotas: Quotas
    source: LimitSource | None
    guard: ExtractionGuard


@asynccontextmanager
async def assembled(settings: IngressSettings, runtime: Runtime) -> AsyncIterator[Ingress]:
    """Opens everything that the door needs, and closes it at the end. Raises ConfigError."""
    telemetry = runtime.telemetry
    wall = time.time  # noqa: TID251 - the real clock is chosen here and passed to all parts
    metrics, statistics = telemetry.once(Metrics), Statistics(wall)
    told = _Told(telemetry.log, metrics)
    security = SecurityLog(settings.security.file, wall, told.security_log)
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
    tenants = _tenants(settings, telemetry, metrics, reporter, told, wall)
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(control_client(settings.control, runtime))
        compilers = {"release": release_compiler()}
        following = followed("ingress", settings.resources, control, runtime, compilers, (TENANT, KEY))
        follower = await stack.enter_async_context(following)
        assert follower is not None, "the settings say what is followed"
        tenants.live.follow(follower)
        documents = ReleaseCatalog(follower)
        catalog = Catalog(documents.pipelines, documents.unusable, metrics.follow)
        if tenants.source is not None:
            stack.push_async_callback(tenants.source.close)
        client = runtime.dial("router", settings.router)
        stack.push_async_callback(client.close)
        serving = HopServing(client, time.monotonic)
        reloads = DocumentReloads(documents, catalog, telemetry.log, telemetry.once(DocumentMetrics), serving)
        arrivals = Arrivals()
        attributes = Attributes(settings.attributes) if settings.attributes else None
        router = HopRouter(client, attributes, arrivals.soon)
        limits = settings.limits
        runner = InferenceRunner(router, limits.max_rows, tenants.guard, time.monotonic, attributes)
        keys = settings.idempotency.store(time.monotonic, wall)
        stack.push_async_callback(keys.close)
        keyed = IdempotentCalls(keys, telemetry.log, settings.idempotency.lease_s, time.monotonic)
        readiness = Readiness(
            AdminPort(settings.admin).ask,
            time.monotonic,
            lambda: tenants.live.directory is not None and reloads.known,
        )
        oip = OpenInference(catalog, runner, statistics, readiness.ready, keyed)
        own = InferenceServicer(catalog, runner, keyed)
        monitoring = _monitoring(settings, runtime, stack)
        served = _operations(settings, runtime, stack, client, control, monitoring, oip, own, wall)
        grouped = GroupedInfer(oip, catalog, runner, router.grouped, arrivals, time.monotonic)
        served[MODEL_INFER] = replace(served[MODEL_INFER], handler=grouped, grouped=grouped)
        admission = AdmissionControl(settings.admission, time.monotonic)
        metrics.limit.set_function(lambda: admission.limit)
        door = Door(
            served,
            tenants.authenticator,
            EncryptionGuard(settings.encrypted_until, wall),
            reporter,
            tenants.quotas,
            admission,
            telemetry.settings.trace_ratio,
            time.monotonic,
        )
        stack.push_async_callback(reporter.flush)
        stack.push_async_callback(security.close)
        periodic = PeriodicTasks(telemetry.log, asyncio.sleep)
        if monitoring is not None:
            report = HopAnswered(monitoring)
            answered = AnsweredEvents(router.highest, report, time.monotonic, telemetry.log)
            stack.push_async_callback(periodic.once, answered.report)
            periodic.every(_ANSWERED_EVERY_S, answered.report)
        stack.push_async_callback(periodic.close)
        periodic.every(settings.reload_s, reloads.check)
        loop = asyncio.get_running_loop()
        follower.on_change(lambda: loop.call_soon_threadsafe(periodic.soon, reloads.check))
        periodic.every(_FLUSH_EVERY_S, reporter.flush)
        periodic.every(_COLLECT_EVERY_S, lambda: grpc_core.collect(lambda: door.in_flight))
        periodic.every(_COLLECT_EVERY_S, keys.purge)
        periodic.every(_FLUSH_EVERY_S, security.flush)
        periodic.every(_READY_EVERY_S, lambda: _tell_ready(telemetry, readiness))
        await _renew_certificates(settings, telemetry, metrics, periodic, wall)
        await _renew_tenants(settings, tenants, periodic)
        yield Ingress(door, oip, own, readiness)


async def _tell_ready(telemetry: Telemetry, readiness: Readiness) -> None:
    """For probes at the metrics endpoint: a stop begins at Envoy."""
    telemetry.ready(await readiness.ready())


def _tenants(
    settings: IngressSettings,
    telemetry: Telemetry,
    metrics: Metrics,
    reporter: Reporter,
    told: _Told,
    wall: Clock,
) -> _Tenants:
    """Raises ConfigError."""
    live = LiveDirectory(telemetry.log, metrics.tenants_broken.set)
    tokens = TokenVerifier(settings.jwt, lambda: live.directory, wall) if settings.jwt else None
    authenticator = Authenticator(None, wall, reporter.security, tokens)
    row_key = RowKey(settings.queries, told.guard)
    source: LimitSource | None = None
    merged = None
    if settings.sharing.redis:
        share_metrics = telemetry.once(ShareMetrics)
        source = lease_source(settings.sharing, row_key, time.monotonic, share_metrics, telemetry.log)
        merged = source.queries
    elif settings.quotas is not None:
        source = MachineSource(settings.quotas, time.monotonic, telemetry.log)
    quotas = Quotas(time.monotonic, source)
    guard = ExtractionGuard(settings.queries, row_key, wall, reporter.security, told.guard, merged)
    live.subscribe(
        authenticator.replace,
        lambda d: quotas.keep_only(set(d.tenants)),
        lambda d: guard.keep_only(set(d.tenants)),
    )
    return _Tenants(live, tokens, authenticator, quotas, source, guard)


async def _renew_tenants(settings: IngressSettings, tenants: _Tenants, periodic: PeriodicTasks) -> None:
    if tenants.source is not None:
        await tenants.source.start()
        periodic.every(EVERY_S if settings.sharing.redis else _REFRESH_EVERY_S, tenants.quotas.refresh)
    if settings.jwt is not None and tenants.tokens is not None:
        await periodic.once(tenants.tokens.refresh)
        periodic.every(settings.jwt.refresh_s, tenants.tokens.refresh)


async def _renew_certificates(
    settings: IngressSettings, telemetry: Telemetry, metrics: Metrics, periodic: PeriodicTasks, wall: Clock
) -> None:
    for secret in secrets(settings.http):
        reloads = CertificateReloads(secret, settings.run_dir, telemetry.log, metrics, wall)
        await periodic.once(reloads.check)
        periodic.every(settings.reload_s, reloads.check)


def _operations(
    settings: IngressSettings,
    runtime: Runtime,
    stack: AsyncExitStack,
    client: Client,
    control: Client | None,
    monitoring: Client | None,
    oip: OpenInference,
    own: InferenceServicer,
    wall: Clock,
) -> dict[str, Operation]:
    """All RPCs of the door. `client`: of the router; `stack` closes what is opened. Raises ConfigError."""
    models = HopModelOperations(client)
    repository = ModelRepository(models, reaches_all=settings.workers == 1 or not settings.together)
    outcomes = OutcomesServicer(monitoring.unary(RECORD) if monitoring else None, wall)
    explained = ExplainServicer(own, client.unary(EXPLAIN), time.monotonic)
    desk = Desk(_changing(control), models, runtime.telemetry.log, time.monotonic)
    stack.push_async_callback(desk.close)
    return {
        **operations(OIP_SERVICE, oip, repository),
        **operations(INFERENCE_SERVICE, own, outcomes, explained),
        **operations(RELEASE_SERVICE, ReleaseServicer(desk), scope="operate"),
        **operations(OPERATIONS_SERVICE, OperationsServicer(monitoring), scope="operate"),
    }


def _changing(control: Client | None) -> RecordReleases | None:
    """The store for operators, who change what is live; None: there is no control to change it at."""
    if control is None:
        return None
    return RecordReleases(RemoteRecords.over(control, asyncio.get_running_loop()))


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


def _monitoring(settings: IngressSettings, runtime: Runtime, stack: AsyncExitStack) -> Client | None:
    """The client of the monitoring service; None: the settings name none. `stack` closes it."""
    if settings.monitoring is None:
        return None
    client = runtime.dial("monitoring", settings.monitoring)
    stack.push_async_callback(client.close)
    return client


def _part(name: str, values: dict[str, object]) -> Part:
    definition = definition_named(name)
    return definition, config.checked(definition.config, values, f"together.{name}")


@dataclass(frozen=True, slots=True)
class _Told:
    """Logs that data which should be kept on the disk can't be kept there."""

    log: Any
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
        exporters.append(SpanStore(traces.folder))
    if settings.telemetry.otlp_endpoint:
        exporters.append(OtlpExporter(settings.telemetry.otlp_endpoint))
    return exporters
