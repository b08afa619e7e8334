"""The instruments of prediction events. Labels hold fixed words."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge


class EventMetrics:
    """Counts events that left, those that were dropped, and whether the journal works."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.sent = counter("headrace_router_events", "Prediction events that the monitoring service took.")
        self._dropped = counter(
            "headrace_router_dropped_events",
            "Prediction events that were dropped: `full` (too many wait), `refused` (the monitoring service can't read or"
            " store them) or `error`. The service sees them as gaps.",
            ["reason"],
            registry=registry,
        )
        for reason in ("full", "refused", "error"):
            self._dropped.labels(reason)
        self.waiting = gauge("headrace_router_waiting_events", "Prediction events that wait to be sent.")
        self.journaled = counter(
            "headrace_router_journaled_events",
            "Events of regulated predictions that the journal took, as monitoring was away or slow.",
            registry=registry,
        )
        self.refused = counter(
            "headrace_router_unjournaled_rows",
            "Rows of regulated predictions that were refused as neither monitoring nor the journal could record them.",
            registry=registry,
        )
        self.works = gauge(
            "headrace_router_journal",
            "0 while the journal of regulated predictions could not be written, should monitoring be away; else 1.",
            registry=registry,
        )
        self.works.set(1)
        self.uncollected = gauge(
            "headrace_router_journal_bytes",
            "Size of the journal that the monitoring service has not collected yet.",
            registry=registry,
        )

    def dropped(self, reason: str, rows: int) -> None:
        self._dropped.labels(reason).inc(rows)
