"""Plans from Feast's registry."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from feast import FeatureService, FeatureStore, FeatureView
from feast.errors import FeastError
from feast.feature_view_projection import FeatureViewProjection
from feast.types import PrimitiveFeastType
from feast.value_type import ValueType

from headrace.columns import DType
from services.features.feast_layout import stored_name
from services.features.planning import EntityKey, Feature, Plans, ServicePlan, Unsupported, ViewPlan
from services.features.ports import StoreError

# Types whose values have a column type of their own → the field of Feast's Value that holds them.
_FIELDS: dict[Any, str] = {
    PrimitiveFeastType.FLOAT64: "double_val",
    PrimitiveFeastType.FLOAT32: "float_val",
    PrimitiveFeastType.INT64: "int64_val",
    PrimitiveFeastType.INT32: "int32_val",
    PrimitiveFeastType.BOOL: "bool_val",
    PrimitiveFeastType.STRING: "string_val",
    PrimitiveFeastType.BYTES: "bytes_val",
    PrimitiveFeastType.UNIX_TIMESTAMP: "unix_timestamp_val",
}
_KEY_TYPES: dict[Any, DType] = {
    ValueType.STRING: DType.BYTES,
    ValueType.INT64: DType.INT64,
    ValueType.INT32: DType.INT32,
}


class FeastRegistry:
    """A `Registry`. Used from one thread."""

    def __init__(self, repo: Path) -> None:
        """Opens the store whose feature_store.yaml is in `repo`; connects to nothing yet. Raises StoreError."""
        # Feast's warnings about its own deprecations are not ours to repeat.
        logging.getLogger("feast").setLevel(logging.ERROR)
        try:
            self.store = FeatureStore(repo_path=str(repo))
        except Exception as error:  # a wrong yaml raises anything
            raise StoreError(f"can't open the feature store: {error}") from error

    def plans(self) -> Plans:
        """See ports.Registry."""
        services: dict[str, ServicePlan] = {}
        refused: dict[str, str] = {}
        try:
            self.store.refresh_registry()  # type: ignore[no-untyped-call]  # Feast leaves it without types
            found = self.store.list_feature_services()
        except Exception as error:  # registries are files, buckets or databases
            raise StoreError(f"can't read the registry: {error}") from error
        for service in found:
            try:
                services[service.name] = self._plan(service)
            except Unsupported as why:
                refused[service.name] = str(why)
        return Plans(services, refused)

    def _plan(self, service: FeatureService) -> ServicePlan:
        return ServicePlan.of(service.name, [self._view(p) for p in service.feature_view_projections])

    def _view(self, projection: FeatureViewProjection) -> ViewPlan:
        if projection.version_tag is not None:
            raise Unsupported(f"view {projection.name} is asked for in one version")
        try:
            view = self.store.get_feature_view(projection.name)
        except FeastError:
            raise Unsupported(f"{projection.name} is no plain feature view") from None
        keys = sorted(self._keys(view, projection.join_key_map), key=lambda key: key.stored)
        if not keys:
            raise Unsupported(f"view {view.name} has no join key")
        return ViewPlan(
            projection.name_alias or projection.name,
            stored_name(view, self.store.config),
            tuple(keys),
            tuple(Feature(f.name, _FIELDS.get(f.dtype, "")) for f in projection.features),
            view.ttl.total_seconds() if view.ttl else 0.0,
        )

    def _keys(self, view: FeatureView, renamed: dict[str, str]) -> list[EntityKey]:
        keys = []
        for column in view.entity_columns:
            dtype = _KEY_TYPES.get(column.dtype.to_value_type())
            if dtype is None:
                raise Unsupported(
                    f"join key {column.name} of {view.name} has type {column.dtype}, not text or integer"
                )
            keys.append(EntityKey(renamed.get(column.name, column.name), dtype, column.name))
        return keys
