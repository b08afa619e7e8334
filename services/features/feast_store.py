"""Feast as a feature store: plans from its registry, rows from its online store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from feast import FeatureService, FeatureStore, FeatureView
from feast.errors import FeastError
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.types import PrimitiveFeastType

from headrace.columns import DType
from services.features.planning import EntityKey, Feature, Plans, ServicePlan, Unsupported, ViewPlan
from services.features.ports import Key, StoredRow, StoreError, Value

# SQLite takes this many parameters in a query, and more; Redis should not be held up by one caller either.
_MAX_KEYS = 4096

# Feast's type → ours, and the field of its Value that holds it.
_TYPES: dict[Any, tuple[DType, str]] = {
    PrimitiveFeastType.FLOAT64: (DType.FLOAT64, "double_val"),
    PrimitiveFeastType.FLOAT32: (DType.FLOAT32, "float_val"),
    PrimitiveFeastType.INT64: (DType.INT64, "int64_val"),
    PrimitiveFeastType.INT32: (DType.INT32, "int32_val"),
    PrimitiveFeastType.BOOL: (DType.BOOL, "bool_val"),
    PrimitiveFeastType.STRING: (DType.BYTES, "string_val"),
    PrimitiveFeastType.BYTES: (DType.BYTES, "bytes_val"),
    PrimitiveFeastType.UNIX_TIMESTAMP: (DType.INT64, "unix_timestamp_val"),
}
# How each kind of join key goes into a Value.
_KEY_VALUES: dict[str, Callable[[Any], ValueProto]] = {
    "string_val": lambda text: ValueProto(string_val=text.decode(errors="replace")),
    "int64_val": lambda number: ValueProto(int64_val=number),
    "int32_val": lambda number: ValueProto(int32_val=number),
}


class _Handle:
    """What is needed to read a view: Feast's object, and where its values lie."""

    def __init__(
        self, view: FeatureView, features: list[tuple[str, str]], keys: list[tuple[str, str]]
    ) -> None:
        self.view = view
        self.names = [name for name, _ in features]
        self.features = features  # (name, field of Value)
        self.key_names = [name for name, _ in keys]
        self.key_makers = [_KEY_VALUES[field] for _, field in keys]


class FeastStore:
    """An `OnlineStore` and a `Registry`. Safe to use from several threads, as Feast's SQLite and Redis stores are."""

    def __init__(self, repo: Path, timeout_s: float) -> None:
        """Opens the store whose feature_store.yaml is in `repo`; connects to nothing yet. Raises StoreError."""
        # Feast's warnings about its own deprecations are not ours to repeat.
        logging.getLogger("feast").setLevel(logging.ERROR)
        try:
            self._store = FeatureStore(repo_path=str(repo))
            _limit_waiting(self._store, timeout_s)
            self._provider = self._store.provider
        except Exception as error:  # a wrong yaml raises anything
            raise StoreError(f"can't open the feature store: {error}") from error
        self._config = self._store.config

    def plans(self) -> Plans:
        services: dict[str, ServicePlan] = {}
        refused: dict[str, str] = {}
        try:
            self._store.refresh_registry()  # type: ignore[no-untyped-call]  # Feast leaves it without types
            found = self._store.list_feature_services()
        except Exception as error:  # registries are files, buckets or databases
            raise StoreError(f"can't read the registry: {error}") from error
        for service in found:
            try:
                services[service.name] = self._plan(service)
            except Unsupported as why:
                refused[service.name] = str(why)
        return Plans(services, refused)

    def _plan(self, service: FeatureService) -> ServicePlan:
        views = []
        for projection in service.feature_view_projections:
            if projection.name_alias or projection.join_key_map:
                raise Unsupported(f"view {projection.name} has an alias or mapped join keys")
            try:
                view = self._store.get_feature_view(projection.name)
            except FeastError:
                raise Unsupported(f"{projection.name} is no plain feature view") from None
            views.append(_view_plan(view, [f.name for f in projection.features]))
        return ServicePlan.of(service.name, views)

    def read(self, view: ViewPlan, keys: Sequence[Key]) -> Sequence[StoredRow | None]:
        handle = view.handle
        assert isinstance(handle, _Handle)
        protos = [_key_proto(handle, key) for key in keys]
        rows: list[StoredRow | None] = []
        for part in _parts(protos):
            try:
                found = self._provider.online_read(self._config, handle.view, part, handle.names)
            except Exception as error:  # each store has its own exceptions
                raise StoreError(f"can't read {view.name}: {type(error).__name__}") from error
            rows += [_row(handle.features, time, values) for time, values in found]
        return rows


def _parts(protos: list[EntityKeyProto]) -> list[list[EntityKeyProto]]:
    return [protos[i : i + _MAX_KEYS] for i in range(0, len(protos), _MAX_KEYS)]


def _limit_waiting(store: FeatureStore, timeout_s: float) -> None:
    """Feast's Redis client by itself tries for 8 to 10 seconds when Redis is down."""
    online = store.config.online_store
    if online.type == "redis":
        online.connection_string += (
            f",socket_timeout={timeout_s},socket_connect_timeout={timeout_s},retry=null"
        )


def _view_plan(view: FeatureView, names: list[str]) -> ViewPlan:
    keys = [(c.name, *_type(view, c.name, c.dtype)) for c in view.entity_columns]
    if not keys or any(field not in _KEY_VALUES for _, _, field in keys):
        raise Unsupported(f"view {view.name} has no join key of text or integers")
    types = {f.name: f.dtype for f in view.features}
    features = [(n, *_type(view, n, types[n])) for n in names]
    return ViewPlan(
        view.name,
        tuple(EntityKey(n, dtype) for n, dtype, _ in keys),
        tuple(Feature(n, dtype) for n, dtype, _ in features),
        view.ttl.total_seconds() if view.ttl else 0.0,
        _Handle(view, [(n, field) for n, _, field in features], [(n, field) for n, _, field in keys]),
    )


def _type(view: FeatureView, name: str, kind: object) -> tuple[DType, str]:
    found = _TYPES.get(kind)
    if found is None:
        raise Unsupported(f"{view.name}:{name} has type {kind}; only scalars are served")
    return found


def _key_proto(handle: _Handle, key: Key) -> EntityKeyProto:
    values = [make(part) for make, part in zip(handle.key_makers, key, strict=True)]
    return EntityKeyProto(join_keys=handle.key_names, entity_values=values)


def _row(
    features: list[tuple[str, str]], time: Any, values: dict[str, ValueProto] | None
) -> StoredRow | None:
    # Redis answers for an entity that it does not have with empty values of 1970.
    if values is None or time is None or not (seconds := time.timestamp()):
        return None
    return seconds, tuple(_value(values.get(name), field) for name, field in features)


def _value(value: ValueProto | None, field: str) -> Value:
    if value is None or not value.HasField(field):  # type: ignore[arg-type]  # one of the names in _TYPES
        return None
    found: Value | str = getattr(value, field)
    return found.encode() if isinstance(found, str) else found
