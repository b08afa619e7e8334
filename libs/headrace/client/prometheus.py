"""The SDK's metrics, for an application that has prometheus_client."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PrometheusHook:
    """A `Hook` for `Headrace(hook=…)`: one per registry, shared by any number of clients."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._calls = Counter(
            "headrace_client_calls_total", "Calls, by canonical code.", ["method", "code"], registry=registry
        )
        self._seconds = Histogram(
            "headrace_client_call_seconds",
            "Time of a call, retries included.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._retries = Counter(
            "headrace_client_retries_total", "Calls tried once more.", ["method"], registry=registry
        )

    def finished(self, method: str, code: str, seconds: float) -> None:
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    def retried(self, method: str) -> None:
        self._retries.labels(method).inc()
