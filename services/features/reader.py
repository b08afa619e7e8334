"""Reads features for a batch: never takes longer than allowed, and always returns a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.columns import Batch, Column, Timing
from services.features.cache.fetcher import Fetcher
from services.features.freshness.freshness import Source, ViewResult, assess, hold_to_rule
from services.features.freshness.on_demand import OnDemandRunner
from services.features.plan.entity_keys import EntityKeys, distinct, read_parts
from services.features.plan.plan import ANY_AGE, ServicePlan
from services.features.reply import MANY_ROWS

if TYPE_CHECKING:
    from services.features.metrics import FeaturesMetrics

# Reading may take this share of the call's remaining time; the rest is for answering from the cache.
_SHARE = 0.8
_MICRO = 1_000_000
_PRESENT = bytes([Source.PRESENT])


class Reader:
    """Serves batches. Used on one event loop."""

    def __init__(
        self,
        fetcher: Fetcher,
        deriver: OnDemandRunner,
        metrics: FeaturesMetrics,
        timeout_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`clock`: monotonic seconds; `wall`: seconds since 1970, for ages."""
        self._fetcher = fetcher
        self._deriver = deriver
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._clock = clock
        self._wall = wall

    async def read(self, plan: ServicePlan, batch: Batch, budget_s: float) -> tuple[list[ViewResult], Batch]:
        """The results for the batch's rows, per view and then per on-demand view of the plan; and the batch without
        columns, with the time it took.

        Rows that failed before, or whose deadline has passed, get an error. Raises Fault INVALID_ARGUMENT for
        entity columns that do not fit the plan.
        """
        clock, rows = self._clock, len(batch.rows.request_ids)
        began = clock()
        keys = keys_of(plan, batch.columns, rows)
        count = sum([len(its.keys) for its in keys])
        read_began = clock()
        timeout_s = min(self._timeout_s, budget_s * _SHARE)
        results = await self._fetcher.fetch(plan, keys, count, rows >= MANY_ROWS, timeout_s)
        read_ended = clock()
        usual = assess(results, self._wall()) and not plan.on_demand
        self._metrics.served(results)
        if plan.on_demand:
            derived = await self._deriver.derive(plan, results, batch.columns, rows)
            held = [hold_to_rule(one, plan.rules.get(one.view.name, ANY_AGE)) for one in derived]
            self._metrics.served(held)
            results += held
        ended = clock()
        reply = Batch(batch.rows, {}, batch.errors).with_errors(batch.expired(ended, "features"))
        took_us, before_us = int((ended - began) * _MICRO), int((read_began - began) * _MICRO)
        reply.timings = [
            Timing("features", "features", 0, took_us, rows, {} if usual else fallbacks_of(results)),
            Timing("features/store", "features", before_us, int((read_ended - read_began) * _MICRO), count),
        ]
        return results, reply


def keys_of(plan: ServicePlan, columns: Mapping[str, Column], rows: int) -> list[EntityKeys]:
    """Per view, the distinct keys of the rows."""
    parts = read_parts(columns, plan.keys)
    found = [distinct(view, parts, rows) for view in plan.key_views]
    return [found[group] for group in plan.key_groups]


def fallbacks_of(judged: Sequence[ViewResult]) -> dict[str, str]:
    """Attributes for the span: per view, the number of rows by source, without present ones; only views that have such rows."""
    found = {}
    for one in judged:
        if others := one.sources.translate(None, _PRESENT):
            told = [f"{s.name.lower()}={n}" for s in Source if (n := others.count(s))]
            found[f"features.{one.view.name}"] = " ".join(told)
    return found
