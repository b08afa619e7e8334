"""When the certificates of this process end, and whether newer files are refused, as metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from headrace.hop.transport.tls import Side, WatchedTls


class CertificateInstruments:
    """The gauges that the server and the clients of a process share. A scrape looks at the files: a server would look only when
    somebody connects."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ends = Gauge(
            "headrace_certificate_end_seconds",
            "When the TLS file in use ends, in seconds since the epoch; ca: the last one in it. callee: of a client.",
            ["side", "callee", "file"],
            registry=registry,
        )
        self._refused = Gauge(
            "headrace_certificate_refused",
            "1 while the TLS files are unusable and the last good ones are in use.",
            ["side", "callee"],
            registry=registry,
        )

    def follow(self, files: WatchedTls, side: Side, callee: str = "") -> None:
        """Shows these files from now on."""
        self._refused.labels(side, callee).set_function(lambda: bool(files.look() and files.refused))
        self._ends.labels(side, callee, "certificate").set_function(lambda: files.look().certificate_end)
        self._ends.labels(side, callee, "ca").set_function(lambda: files.look().ca_end)
