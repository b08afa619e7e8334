"""Builds RegistryPlans from Feast's registry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feast import FeatureService, FeatureStore, FeatureView
from feast.value_type import ValueType

from headrace.columns import DType
from services.features.feast.layout import stored_name
from services.features.feast.on_demand import derived_of, field_of_type
from services.features.plan.assembly import assemble
from services.features.plan.plan import (
    Feature,
    JoinKey,
    OnDemandView,
    RegistryPlans,
    ServicePlan,
    Unsupported,
    ViewPlan,
    ViewSelection,
)
from services.features.stores.feast_fallback import fallback_plan
from services.features.stores.online_store import StoreError

_KEY_TYPES: dict[Any, DType] = {
    ValueType.STRING: DType.BYTES,
    ValueType.INT64: DType.INT64,
    ValueType.INT32: DType.INT32,
}


class FeastRegistry:
    """A `Registry`. Used from one thread."""

    def __init__(self, repo: Path) -> None:
        """Opens the store whose feature_store.yaml is in `repo`; connects to nothing yet. Raises StoreError."""
        # Hides Feast's warnings about its own deprecations.
        logging.getLogger("feast").setLevel(logging.ERROR)
        try:
            self.store = FeatureStore(repo_path=str(repo))
        except Exception as error:  # a wrong yaml raises anything
            raise StoreError(f"can't open the feature store: {error}") from error

        self._indirect = ""

    def leave_to_feast(self, why: str) -> None:
        """From now on, all plans are read by Feast itself. `why`: the reason."""
        self._indirect = why

    def plans(self) -> RegistryPlans:
        """See online_store.Registry."""
        try:
            self.store.refresh_registry()  # type: ignore[no-untyped-call]  # Feast leaves it without types
            services = self.store.list_feature_services()
            plain = [*self.store.list_feature_views(), *self.store.list_stream_feature_views()]
            on_demand = self.store.list_on_demand_feature_views()
        except Exception as error:  # registries are files, buckets or databases
            raise StoreError(f"can't read the registry: {error}") from error
        odd: dict[str, str] = {}
        views = {view.name: found for view in plain if (found := self._view(view, odd))}
        derived = {view.name: derived_of(view) for view in on_demand if not view.write_to_online_store}
        planned: dict[str, ServicePlan] = {}
        for service in services:
            try:
                if self._indirect:
                    raise Unsupported(self._indirect)
                planned[service.name] = _plan(service, views, derived)
            except Unsupported as why:
                names = sorted(p.name for p in service.feature_view_projections)
                text = "; ".join([odd[n] for n in names if n in odd]) or str(why)
                planned[service.name] = fallback_plan(
                    service, {v.name: v for v in (*plain, *on_demand)}, text
                )
        return RegistryPlans(views, derived, planned)

    def _view(self, view: FeatureView, odd: dict[str, str]) -> ViewPlan | None:
        """The plan of a view with all its features. If only Feast can read it: None, and the reason is in `odd`."""
        keys = []
        for column in view.entity_columns:
            dtype = _KEY_TYPES.get(column.dtype.to_value_type())
            if dtype is None:
                odd[view.name] = (
                    f"join key {column.name} of {view.name} has type {column.dtype}, not text or integer"
                )
                return None
            keys.append(JoinKey(column.name, dtype, column.name))
        if not keys or keys[0].name == "__dummy_id":
            odd[view.name] = f"view {view.name} has no join key"
            return None
        return ViewPlan(
            view.name,
            stored_name(view, self.store.config),
            tuple(sorted(keys, key=lambda key: key.stored)),
            tuple(Feature(f.name, field_of_type(f.dtype)) for f in view.features),
            view.ttl.total_seconds() if view.ttl else 0.0,
        )


def _plan(
    service: FeatureService, views: Mapping[str, ViewPlan], derived: Mapping[str, OnDemandView]
) -> ServicePlan:
    picks = []
    for projection in service.feature_view_projections:
        if projection.version_tag is not None:
            raise Unsupported(f"view {projection.name} is asked for in one version")
        names = tuple(f.name for f in projection.features)
        picks.append(
            ViewSelection(projection.name, names, projection.name_alias or "", projection.join_key_map)
        )
    return assemble(service.name, picks, views, derived)
