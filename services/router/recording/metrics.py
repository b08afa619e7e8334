"""The instruments of the recording. Labels hold fixed words."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class RecordingMetrics:
    """Counts what was recorded, and what was not."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("headrace_router_recorded_rows", "Rows recorded.", registry=registry)
        self._dropped = Counter(
            "headrace_router_unrecorded_rows",
            "Rows that should have been recorded and were not: `full` (too many wait), `disk` or `error`.",
            ["reason"],
            registry=registry,
        )
        self.works = Gauge(
            "headrace_router_recording",
            "1 while requests are recorded, 0 while their files can't be written.",
            registry=registry,
        )

    def dropped(self, reason: str, rows: int) -> None:
        self._dropped.labels(reason).inc(rows)
