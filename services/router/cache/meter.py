"""What the cache counts. Labels hold only names of pipelines and the words below."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

HIT, SHARED, MISS, STALE, BYPASS = "hit", "shared", "miss", "stale", "bypass"


class CacheMetrics:
    """Counts what happens in the cache."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._rows = counter(
            "headrace_router_cache_rows",
            "Rows of pipelines with a cache, by what answered them.",
            ["pipeline", "outcome"],
        )
        self._unpinned = gauge(
            "headrace_router_cache_unpinned",
            "1 for a pipeline with the key `cache` whose answers are not kept: a model stage has no version.",
            ["pipeline"],
        )
        self._failures = counter(
            "headrace_router_cache_store_failures",
            "Calls of the shared store of answers that failed or were late.",
        )

    def rows(self, pipeline: str, outcome: str, count: int) -> None:
        """`count` rows were answered by a kept answer (`hit`), by one that another row was just computing (`shared`), by the
        models (`miss`), by a kept one in place of a failure (`stale`), or may not be kept (`bypass`)."""
        self._rows.labels(pipeline, outcome).inc(count)

    def unpinned(self, pipeline: str, wrong: bool) -> None:
        """Whether the pipeline asks for a cache and has none, as a stage runs whatever version was loaded last."""
        self._unpinned.labels(pipeline).set(wrong)

    def store_failed(self) -> None:
        """The shared store could not be asked; the models answered."""
        self._failures.inc()
