"""Logs, metrics and traces of one process, as a service gets them in its Runtime."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from headrace.hop import config
from headrace.hop.process import logs
from headrace.hop.process.endpoint import MetricsEndpoint, Page

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from headrace.hop.process.traces import Traces

T = TypeVar("T")
# They would be one more series per counter and histogram, which nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus_client left it untyped


class Telemetry:
    """Logs, metrics and traces of one process.

    `log`: structlog logger bound to the service. `registry`: the process's own Prometheus registry.
    `traces`: OpenTelemetry, or None when tracing is off. `metrics_address`: where the registry is scraped, ""
    if nowhere.
    """

    def __init__(
        self, service: str, settings: config.Telemetry | None = None, exporter: SpanExporter | None = None
    ) -> None:
        """Opens the metrics endpoint. Raises config.ConfigError if its address cannot be bound."""
        settings = settings or config.Telemetry()
        self.service = service
        self.settings = settings
        self.registry = CollectorRegistry()
        self.traces = _traces(service, settings, exporter)
        self.log = logs.logger(service, settings, self.traces.current_ids if self.traces else None)
        self._instruments: dict[Any, Any] = {}
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._ready = Gauge(
            "headrace_ready", "1 while the service takes calls.", ["service"], registry=self.registry
        )
        self._build = Gauge(
            "headrace_build_info",
            "Always 1; the labels tell the build.",
            ["service", "version"],
            registry=self.registry,
        )
        self._build.labels(service, build_version()).set(1)
        # The process's own first: a door is not ready because a service that it hosts is.
        self._services = {service: False}
        self._age: Callable[[], float] | None = None
        probes = {"/live": self._stuck, "/ready": self._not_ready}
        self._pages: dict[str, Page] = {}
        self._endpoint = (
            MetricsEndpoint(settings.metrics, self.registry, probes, self._pages)
            if settings.metrics
            else None
        )
        self.metrics_address = self._endpoint.address if self._endpoint else ""

    def once(self, kind: Callable[[CollectorRegistry], T]) -> T:
        """The process's one `kind(registry)`: instruments that several parts of a process share."""
        if kind not in self._instruments:
            self._instruments[kind] = kind(self.registry)
        found: T = self._instruments[kind]
        return found

    def named(self, service: str) -> Telemetry:
        """The same telemetry under the name of another service in this process."""
        if service == self.service:
            return self
        other = copy.copy(self)
        other.service = service
        other.log = self.log.bind(service=service)
        other._build.labels(service, build_version()).set(1)
        return other

    def page(self, path: str, answer: Page) -> None:
        """Serves a page of JSON beside the metrics."""
        self._pages[path] = answer

    def ready(self, value: bool) -> None:
        """Sets the gauge `headrace_ready` of the service. `/ready` answers 200 while all services of the process are ready."""
        self._services[self.service] = value
        self._ready.labels(self.service).set(int(value))

    def follow(self, age: Callable[[], float] | None) -> None:
        """`/live` answers 200 unless `age`, the seconds since the event loop's last heartbeat, is above `telemetry.live_s`."""
        self._age = age

    def _stuck(self) -> str:
        age = self._age() if self._age is not None else 0.0
        return f"the event loop has stood still for {age:.1f} s" if age > self.settings.live_s else ""

    def _not_ready(self) -> str:
        waiting = sorted(name for name, ready in self._services.copy().items() if not ready)
        return f"not ready: {', '.join(waiting)}" if waiting else ""

    def take_over_logs(self) -> None:
        """Routes the logs of libraries the same way; once, in a process's main."""
        logs.take_over(self.service, self.settings, self.traces.current_ids if self.traces else None)

    async def close(self) -> None:
        """Exports what is left, then closes the exporter and the endpoint."""
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)
        if self._endpoint is not None:
            await asyncio.to_thread(self._endpoint.close)


@cache
def build_version() -> str:
    """Version of headrace as installed."""
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"


def _traces(service: str, settings: config.Telemetry, exporter: SpanExporter | None) -> Traces | None:
    # Spans without an exporter would only cost time.
    if settings.trace_ratio == 0 or not (settings.otlp_endpoint or exporter):
        return None
    from headrace.hop.process.traces import Traces

    return Traces(service, build_version(), settings.otlp_endpoint, exporter)
