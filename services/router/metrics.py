"""The router's instruments. Labels hold only names out of pipeline documents and canonical codes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Gauge

from headrace.hop.metrics import Counter, Histogram
from services.router.ports import Meter

_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

# A label is the name of a folder, and anybody who may write there can make many.
_MAX_QUARANTINED = 100


class Metrics(Meter):
    """Counts rows, fallbacks, time of stages and reloads of documents."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Looking up a child by its labels costs more than counting.
        self._stage_timers: dict[tuple[str, str], Histogram] = {}
        self._row_counters: dict[tuple[str, str], Counter] = {}
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._rows = counter("headrace_router_rows", "Rows answered, by code.", ["pipeline", "code"])
        self._stages = Histogram(
            "headrace_router_stage_seconds",
            "Time that a stage took for one batch, hop included.",
            ["pipeline", "stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._fallbacks = counter(
            "headrace_router_fallback_rows", "Rows that used a fallback.", ["pipeline", "fallback"]
        )
        self._asked = counter(
            "headrace_router_member_rows",
            "Rows for which a stage of several models asked each of them.",
            ["pipeline", "stage", "member"],
        )
        self._refusals = counter(
            "headrace_router_refused_rows",
            "Rows refused as a demanded feature view had no values for them, or none young enough.",
            ["pipeline", "cause"],
        )
        self._revision = gauge("headrace_router_pipeline_version", "Version that serves now.", ["pipeline"])
        self._release = gauge(
            "headrace_router_release", "Number of the release that serves now.", ["pipeline"]
        )
        self._waiting = gauge(
            "headrace_router_waiting_releases",
            "1 for a pipeline whose newest release waits for its models.",
            ["pipeline"],
        )
        self.refused = counter(
            "headrace_router_refused_documents", "Looks at the pipeline documents that found one to refuse."
        )
        self._quarantined = gauge(
            "headrace_router_quarantined_documents",
            "1 for a pipeline whose document is broken; `serves` is last_good or nothing.",
            ["pipeline", "serves"],
        )
        self.reports = counter(
            "headrace_router_reports", "Reports of facts to the monitoring service, by code.", ["code"]
        )
        self.lost_exposures = counter(
            "headrace_router_lost_exposures",
            "Rows of which the monitoring service will not know which arm answered them.",
        )
        self.routers = gauge(
            "headrace_router_shared_caps_routers",
            "Live routers that this one knows of: caps of a release that are `shared` are divided by it.",
        )
        self.routers.set(1)

    def rows(self, pipeline: str, code: str, count: int) -> None:
        key = pipeline, code
        child = self._row_counters.get(key)
        if child is None:
            child = self._row_counters[key] = self._rows.labels(*key)
        child.inc(count)

    def stage(self, pipeline: str, stage: str, seconds: float) -> None:
        key = pipeline, stage
        child = self._stage_timers.get(key)
        if child is None:
            child = self._stage_timers[key] = self._stages.labels(*key)
        child.observe(seconds)

    def fallback(self, pipeline: str, fallback: str, count: int) -> None:
        self._fallbacks.labels(pipeline, fallback).inc(count)

    def asked(self, pipeline: str, stage: str, member: str, count: int) -> None:
        self._asked.labels(pipeline, stage, member).inc(count)

    def refusal(self, pipeline: str, cause: str, count: int) -> None:
        self._refusals.labels(pipeline, cause).inc(count)

    def serves(self, pipeline: str, version: int, release: int) -> None:
        self._revision.labels(pipeline).set(version)
        self._release.labels(pipeline).set(release)

    def no_longer_serves(self, pipeline: str) -> None:
        self._revision.remove(pipeline)
        self._release.remove(pipeline)

    def waiting(self, pipelines: Mapping[str, str]) -> None:
        """The pipelines whose newest release waits, and for what."""
        self._waiting.clear()
        for name in sorted(pipelines)[:_MAX_QUARANTINED]:
            self._waiting.labels(name).set(1)

    def quarantined(self, pipelines: Mapping[str, bool]) -> None:
        """The pipelines whose documents are broken, each with whether its last good revision serves."""
        self._quarantined.clear()
        for name, serves in sorted(pipelines.items())[:_MAX_QUARANTINED]:
            self._quarantined.labels(name, "last_good" if serves else "nothing").set(1)
