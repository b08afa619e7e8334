"""The metrics of the security log, and of certificates."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class SecurityMetrics:
    """Label values are kinds of events and names of secrets, fixed words."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._certificate_ends = Gauge(
            "headrace_ingress_certificate_end_seconds",
            "When the certificate that is served, or the last CA of clients, ends, in seconds since the epoch; 0: there is none.",
            ["secret"],
            registry=registry,
        )
        self._certificate_refused = Gauge(
            "headrace_ingress_certificate_refused",
            "1 while the files of the certificate, or of the clients' CA, are unusable and the last good ones are in use.",
            ["secret"],
            registry=registry,
        )
        self._events = Counter(
            "headrace_ingress_security_events_total",
            "Refused credentials, forbidden requests, and what else the security log tells of.",
            ["kind"],
            registry=registry,
        )
        self.failing = Gauge(
            "headrace_ingress_security_log_failing",
            "1 while the file of security events can't be written, else 0.",
            registry=registry,
        )

    def event(self, kind: str) -> None:
        """Counts one security event."""
        self._events.labels(kind).inc()

    def certificate(self, name: str, ends: float, *, refused: bool) -> None:
        """What is served of a secret of the TLS listener ends at this time (seconds since the epoch; 0: none is). `refused`: its
        newer files are unusable."""
        self._certificate_ends.labels(name).set(ends)
        self._certificate_refused.labels(name).set(refused)
