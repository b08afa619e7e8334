"""Reads features for a batch: never takes longer than allowed, and always returns a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from headrace.columns import Batch, Column, Timing
from services.features.cache.fetcher import Fetched, Fetcher
from services.features.freshness.freshness import (
    ANY_AGE,
    FoundRows,
    FreshnessRule,
    Source,
    ViewResult,
    assess,
    hold_to_rule,
)
from services.features.freshness.on_demand import OnDemandRunner, plain_values
from services.features.plan.entity_keys import EntityKeys, distinct, read_parts
from services.features.plan.plan import ServicePlan
from services.features.stores.online_store import FeastFallback, StoreError, StoreTimeoutError

# Reading may take this share of the call's remaining time; the rest is for answering from the cache.
_SHARE = 0.8
_MICRO = 1_000_000
_NO_RULES: Mapping[str, FreshnessRule] = MappingProxyType({})


class ServeObserver(Protocol):
    """Is told what is returned; see metrics.py."""

    def stock(self, seconds: float, error: str) -> None:
        """Feast itself read a batch; `error`: "" or what went wrong (timeout, store)."""
        ...

    def served(self, results: Sequence[ViewResult]) -> None:
        """These results are returned."""
        ...


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` for durations; `wall` (seconds since 1970) for ages."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class Reader:
    """Serves batches. Used on one event loop."""

    def __init__(
        self,
        fetcher: Fetcher,
        stock: FeastFallback,
        deriver: OnDemandRunner,
        observer: ServeObserver,
        clocks: Clocks,
        timeout_s: float,
    ) -> None:
        self._fetcher = fetcher
        self._stock = stock
        self._deriver = deriver
        self._observer = observer
        self._clocks = clocks
        self._timeout_s = timeout_s

    async def read(
        self, plan: ServicePlan, batch: Batch, budget_s: float, rules: Mapping[str, FreshnessRule] = _NO_RULES
    ) -> tuple[list[ViewResult], Batch]:
        """The results for the batch's rows, per view and then per on-demand view of the plan; and the batch without
        columns, with the time it took.

        Rows that failed before, or whose deadline has passed, get an error. Raises Fault INVALID_ARGUMENT for
        entity columns that do not fit the plan. `rules`: by view, how old its values may be.
        """
        clock = self._clocks.monotonic
        began = clock()
        keys = keys_of(plan, batch.columns, len(batch))
        read_began = clock()
        timeout_s = min(self._timeout_s, budget_s * _SHARE)
        if plan.fallback:
            found = await self._by_feast(plan, batch, timeout_s)
            keys = [EntityKeys([b""] * len(batch), None)] * len(found)
        else:
            found = await self._fetcher.fetch(plan.views, keys, timeout_s)
        read_ended = clock()
        results = self._assessed(plan, keys, found, rules)
        self._observer.served(results)
        if plan.on_demand:
            derived = await self._deriver.derive(plan, results, batch.columns, len(batch))
            held = [hold_to_rule(one, rules.get(one.view.name, ANY_AGE)) for one in derived]
            self._observer.served(held)
            results += held
        ended = clock()
        reply = Batch(batch.rows, {}, batch.errors).with_errors(batch.expired(ended, "features"))
        reply.timings = [
            replace(_timing("features", began, began, ended, len(batch)), attributes=fallbacks_of(results)),
            _timing("features/store", began, read_began, read_ended, sum([len(k.keys) for k in keys])),
        ]
        return results, reply

    async def _by_feast(self, plan: ServicePlan, batch: Batch, timeout_s: float) -> list[Fetched]:
        given = {f.name: plain_values(batch.columns.get(f.name), f) for f in plan.fallback_inputs}
        began = self._clocks.monotonic()
        try:
            rows = await self._stock.read(plan, given, len(batch), timeout_s)
            error = ""
        except StoreError as failure:
            rows = [[None] * len(batch)] * len(plan.views)
            error = "timeout" if isinstance(failure, StoreTimeoutError) else "store"
        self._observer.stock(self._clocks.monotonic() - began, error)
        return [(found, not error) for found in rows]

    def _assessed(
        self,
        plan: ServicePlan,
        keys: Sequence[EntityKeys],
        fetched: Sequence[Fetched],
        rules: Mapping[str, FreshnessRule],
    ) -> list[ViewResult]:
        found = [
            FoundRows(view, its, rows, answered, rules.get(view.name, ANY_AGE))
            for view, its, (rows, answered) in zip(plan.views, keys, fetched, strict=True)
        ]
        return assess(found, self._clocks.wall())


def keys_of(plan: ServicePlan, columns: Mapping[str, Column], rows: int) -> list[EntityKeys]:
    """Per view, the distinct keys of the rows."""
    parts = read_parts(columns, plan.keys)
    keys: list[EntityKeys] = []
    for i, (view, group) in enumerate(zip(plan.views, plan.key_groups, strict=True)):
        keys.append(distinct(view, parts, rows) if group == i else keys[group])
    return keys


def fallbacks_of(judged: Sequence[ViewResult]) -> dict[str, str]:
    """Attributes for the span: per view, the number of rows by source, without present ones; only views that have such rows."""
    found = {}
    for one in judged:
        sources = one.sources
        if sources.count(Source.PRESENT) != len(sources):
            told = [
                f"{s.name.lower()}={n}" for s in Source if s is not Source.PRESENT and (n := sources.count(s))
            ]
            found[f"features.{one.view.name}"] = " ".join(told)
    return found


def _timing(stage: str, origin: float, start: float, stop: float, rows: int) -> Timing:
    return Timing(stage, "features", int((start - origin) * _MICRO), int((stop - start) * _MICRO), rows)
