"""Reads through Feast what only Feast can read: views without keys or in one version, keys of unusual types, other stores.

This is several times slower than a direct read. It is counted in a metric, so that nobody uses it without knowing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from services.features.feast.layout import field_of_type, name_of
from services.features.feast.messages import FeatureService, FeatureView, StreamFeatureView
from services.features.feast.repository import FeastClient
from services.features.plan.assembly import revision_of
from services.features.plan.plan import Feature, ServicePlan, ViewPlan
from services.features.stores.answers import answered
from services.features.stores.online_store import KeyQuery, Rows, StoredRow, StoreError

if TYPE_CHECKING:
    from feast import OnDemandFeatureView


def fallback_plan(
    service: FeatureService,
    views: Mapping[str, FeatureView | StreamFeatureView],
    on_demand: Mapping[str, OnDemandFeatureView],
    why: str,
) -> ServicePlan:
    """The plan of a service that Feast reads. Its keys are request columns of any type."""
    plans, inputs = [], {}
    for projection in service.spec.features:
        name = projection.feature_view_name
        features = tuple(Feature(f.name, field_of_type(f.value_type)) for f in projection.feature_columns)
        view, derived = views.get(name), on_demand.get(name)
        ttl_s = view.spec.ttl.ToTimedelta().total_seconds() if view is not None else 0.0
        plans.append(ViewPlan(name_of(projection), name, (), features, ttl_s))
        # Those without a name of their own belong to views without keys.
        for column in view.spec.entity_columns if view is not None else ():
            if column.name != "__dummy_id":
                key = projection.join_key_map.get(column.name, column.name)
                inputs[key] = Feature(key, field_of_type(column.value_type))
        for source in derived.source_request_sources.values() if derived is not None else ():
            fields = {f.name: field_of_type(f.dtype.to_value_type().value) for f in source.schema}
            inputs |= {n: Feature(n, field) for n, field in fields.items()}
    shown = tuple(len(view.features) for view in plans)
    revision = revision_of(service.spec.name, plans, shown, ())
    return ServicePlan(service.spec.name, tuple(plans), (), shown, (), revision, why, tuple(inputs.values()))


class FeastReader:
    """Reads as `get_online_features` does, in a thread."""

    def __init__(self, client: FeastClient, threads: ThreadPoolExecutor) -> None:
        self._client = client
        self._threads = threads

    async def read(
        self, plan: ServicePlan, given: Mapping[str, list[Any]], rows: int, timeout_s: float
    ) -> Sequence[Rows]:
        """Per view, a row for each row of the request. Raises StoreError."""
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._threads, self._read, plan, given, rows)
        return await answered(job, timeout_s, "Feast")

    def _read(self, plan: ServicePlan, given: Mapping[str, list[Any]], rows: int) -> Sequence[Rows]:
        try:
            store = self._client.store()
            service = store.get_feature_service(plan.name, allow_cache=True)
            # A view without keys gets any column that the request has: Feast needs it to know the number of rows.
            entities = dict(given) or {"__row": list(range(rows))}
            found = store.get_online_features(service, entities, full_feature_names=True).proto
        except Exception as error:  # each store has its own exceptions
            raise StoreError(f"Feast can't read {plan.name}: {type(error).__name__}") from error
        vectors = dict(zip(found.metadata.feature_names.val, found.results, strict=True))
        return [
            _rows([vectors[f"{view.name}__{f.name}"] for f in view.features], rows) for view in plan.views
        ]


def _rows(vectors: Sequence[Any], rows: int) -> Rows:
    found: list[StoredRow | None] = []
    for i in range(rows):
        stamps = [v.event_timestamps[i] for v in vectors]
        values = tuple(v.values[i].SerializeToString() for v in vectors)
        time = max((s.seconds + s.nanos / 1e9 for s in stamps), default=0.0)
        # An on-demand feature never has an event time; any other feature lacks it only if the entity is absent.
        found.append((time, values) if time or any(values) else None)
    return found


class UnreadableStore:
    """An `OnlineStore` that is never read: Feast reads everything."""

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        """See online_store.OnlineStore."""
        del asks, timeout_s
        raise StoreError("this store is read by Feast alone")

    def watch(self, changed: Callable[[bytes], None]) -> None:
        """See online_store.OnlineStore."""

    def epoch(self) -> int:
        """See online_store.OnlineStore."""
        return -1

    async def close(self) -> None:
        """See online_store.OnlineStore."""
