"""Builds plans from Feast's registry: from its messages, which are the same for all kinds of registry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from headrace.columns import DType
from services.features.feast.layout import field_of_type, stored_name
from services.features.feast.messages import (
    FeatureService,
    FeatureView,
    Registry,
    StreamFeatureView,
    ValueType,
)
from services.features.feast.repository import Repository
from services.features.plan.assembly import assemble
from services.features.plan.plan import (
    Feature,
    JoinKey,
    OnDemandView,
    ServicePlan,
    Unsupported,
    ViewPlan,
    ViewSelection,
)
from services.features.stores.online_store import StoreError

if TYPE_CHECKING:
    from feast import FeatureStore, OnDemandFeatureView

_KEY_TYPES: dict[int, DType] = {
    ValueType.STRING: DType.BYTES,
    ValueType.INT64: DType.INT64,
    ValueType.INT32: DType.INT32,
}
# Names that Feast gives the entity, and the join key, of a view without entities.
_NO_ENTITY, _NO_KEY = "__dummy", "__dummy_id"


class FeastRegistry:
    """A `Registry`. Used from one thread."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        # Feast's own, opened at the first read of a registry that is no file.
        self._store: FeatureStore | None = None

    def plans(self) -> dict[str, ServicePlan]:
        """The plan of each feature service; what it can't read is in its plan's `unreadable`. Blocks. Raises StoreError."""
        project = self._repository.project
        registry = self._registry()
        views: dict[str, ViewPlan] = {}
        odd: dict[str, str] = {}
        for view in (*registry.feature_views, *registry.stream_feature_views):
            if view.spec.project == project:
                try:
                    views[view.spec.name] = self._view(view)
                except Unsupported as why:
                    odd[view.spec.name] = str(why)
        derived = _derived(self._on_demand(registry))
        planned: dict[str, ServicePlan] = {}
        for service in registry.feature_services:
            if service.spec.project != project:
                continue
            try:
                planned[service.spec.name] = _plan(service, views, derived)
            except Unsupported as why:
                names = sorted(p.feature_view_name for p in service.spec.features)
                text = "; ".join([odd[n] for n in names if n in odd]) or str(why)
                planned[service.spec.name] = ServicePlan(
                    service.spec.name, (), (), (), (), revision="", unreadable=text
                )
        return planned

    def _registry(self) -> Registry:
        """What the registry holds now. Raises StoreError."""
        path = self._repository.registry_file
        if path is None:
            return self._read_by_feast()
        try:
            content = path.read_bytes()
            if not content:
                # Feast empties the file before it writes: no services would be left for a moment.
                raise StoreError(f"can't read the registry: {path} is empty")
            return Registry.FromString(content)
        except (OSError, DecodeError) as error:
            raise StoreError(f"can't read the registry: {error}") from error

    def _read_by_feast(self) -> Registry:
        """What Feast reads now. Raises StoreError."""
        from feast import FeatureStore

        # Hides Feast's warnings about its own deprecations.
        logging.getLogger("feast").setLevel(logging.ERROR)
        try:
            self._store = self._store or FeatureStore(repo_path=str(self._repository.folder))
            self._store.refresh_registry()  # type: ignore[no-untyped-call]  # Feast leaves it without types
            return self._store.registry.proto()
        except Exception as error:  # registries are buckets or databases
            raise StoreError(f"can't read the registry: {error}") from error

    def _on_demand(self, registry: Registry) -> dict[str, OnDemandFeatureView]:
        """The on-demand views, as Feast's objects: these hold the functions. Raises StoreError."""
        found = [v for v in registry.on_demand_feature_views if v.spec.project == self._repository.project]
        if not found:
            return {}
        # Feast is loaded for functions alone: it takes seconds and 140 MB.
        from feast import OnDemandFeatureView

        try:
            return {view.spec.name: OnDemandFeatureView.from_proto(view) for view in found}
        except Exception as error:  # a function may be of another Python, or import what is not here
            raise StoreError(f"can't read the registry: {error}") from error

    def _view(self, view: FeatureView | StreamFeatureView) -> ViewPlan:
        """The plan of a view with all its features. Raises Unsupported."""
        keys = []
        columns = view.spec.entity_columns
        if [*view.spec.entities[:1]] == [_NO_ENTITY] or not columns or columns[0].name == _NO_KEY:
            raise Unsupported(f"view {view.spec.name} has no join key")
        for column in columns:
            dtype = _KEY_TYPES.get(column.value_type)
            if dtype is None:
                kind = ValueType.Enum.Name(column.value_type).lower()
                raise Unsupported(
                    f"join key {column.name} of {view.spec.name} has type {kind}, not text or integer"
                )
            keys.append(JoinKey(column.name, dtype, column.name))
        return ViewPlan(
            view.spec.name,
            stored_name(view, self._repository),
            tuple(sorted(keys, key=lambda key: key.stored)),
            tuple(Feature(f.name, field_of_type(f.value_type)) for f in view.spec.features),
            view.spec.ttl.ToTimedelta().total_seconds(),
        )


def _derived(on_demand: Mapping[str, OnDemandFeatureView]) -> dict[str, OnDemandView]:
    if not on_demand:
        return {}
    # Imports pandas.
    from services.features.feast.on_demand import derived_of

    return {name: derived_of(view) for name, view in on_demand.items() if not view.write_to_online_store}


def _plan(
    service: FeatureService, views: Mapping[str, ViewPlan], derived: Mapping[str, OnDemandView]
) -> ServicePlan:
    picks = []
    for projection in service.spec.features:
        if projection.HasField("version_tag"):
            raise Unsupported(f"view {projection.feature_view_name} is asked for in one version")
        names = tuple(f.name for f in projection.feature_columns)
        alias, keys = projection.feature_view_name_alias, dict(projection.join_key_map)
        picks.append(ViewSelection(projection.feature_view_name, names, alias, keys))
    return assemble(service.spec.name, picks, views, derived)
