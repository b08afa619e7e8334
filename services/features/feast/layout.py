"""All private parts of Feast that are needed to read its stores directly, collected in this one module.

`feast` is pinned to 0.67, because its API guarantees nothing of this. The storage layout itself is specified for all
implementations of Feast (docs/specs/online_store_format.md). Tests compare every cell with `get_online_features`.
"""

from __future__ import annotations

from typing import Any

from feast import FeatureView, RepoConfig
from feast.feature_view_projection import FeatureViewProjection

# The name under which a view's rows are stored (its name; with versions enabled, name and version); a feature's field in Redis.
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name

# Parses the options of a Redis connection string as Feast does.
from feast.infra.online_stores.redis import RedisOnlineStore

# Resolves a relative SQLite path as Feast does.
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.features.stores.online_store import StoreError


def stored_name(view: FeatureView, config: RepoConfig) -> str:
    """The view's name in the online store."""
    name: str = compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)
    return name


def sqlite_path(config: RepoConfig) -> str:
    """The file of a SQLite online store."""
    return SqliteOnlineStore._get_db_path(config)


def redis_nodes(config: RepoConfig) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The nodes (host, port) and the client's options of a Redis online store."""
    nodes, options = RedisOnlineStore._parse_connection_string(config.online_store.connection_string)
    return nodes, options


def field_of(stored: str, feature: str) -> bytes:
    """The field of a feature in an entity's hash in Redis."""
    field: bytes = _mmh3(f"{stored}:{feature}")
    return field


def event_time(stamp: bytes) -> float:
    """A stored event time in seconds since 1970. Raises StoreError if the value is not an event time."""
    try:
        found = Timestamp.FromString(stamp)
    except DecodeError as error:
        raise StoreError("Redis holds an event time that is none") from error
    return found.seconds + found.nanos / 1e9


def limit_waiting(config: RepoConfig, timeout_s: float) -> None:
    """Sets a time limit on Feast's own Redis client, used for what only Feast can read. It would retry for 8 to 10 s."""
    limits = f",socket_timeout={timeout_s},socket_connect_timeout={timeout_s},retry=null"
    config.online_store.connection_string += limits


def name_of(projection: FeatureViewProjection) -> str:
    """The name of a feature service's view in Feast's replies: its alias or name, and its version if one is requested."""
    name: str = projection.name_to_use()  # type: ignore[no-untyped-call]  # Feast leaves it without types
    return name
