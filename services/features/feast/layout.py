"""How Feast 0.67 lays out its stores: names, fields and types, which are read directly.

Feast specifies the layout for all implementations (docs/specs/online_store_format.md). `feast` is pinned, and tests compare
each of these functions with Feast's own and every cell with `get_online_features`.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import mmh3
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.features.feast.messages import FeatureView, StreamFeatureView, ValueType
from services.features.feast.repository import Repository
from services.features.stores.online_store import StoreError

# Types whose values fit in columns → the field of Feast's Value that holds them.
_FIELDS: dict[int, str] = {
    ValueType.DOUBLE: "double_val",
    ValueType.FLOAT: "float_val",
    ValueType.INT64: "int64_val",
    ValueType.INT32: "int32_val",
    ValueType.BOOL: "bool_val",
    ValueType.STRING: "string_val",
    ValueType.BYTES: "bytes_val",
    ValueType.UNIX_TIMESTAMP: "unix_timestamp_val",
}


def field_of_type(number: int) -> str:
    """The field of Feast's Value that holds a type (a number of ValueType); "" for lists, maps and similar types."""
    return _FIELDS.get(number, "")


def stored_name(view: FeatureView | StreamFeatureView, repository: Repository) -> str:
    """The view's name in the online store; where views have versions, with the current one."""
    name, version = view.spec.name, view.meta.current_version_number
    if repository.registry.enable_online_feature_view_versioning and version > 0:
        return f"{name}_v{version}"
    return name


def sqlite_path(repository: Repository) -> Path:
    return repository.folder / str(repository.online.get("path", "data/online.db"))


def redis_nodes(repository: Repository) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The nodes (host, port) and the client's options of a Redis online store, as its connection string names them."""
    nodes, options = [], {}
    for part in str(repository.online.get("connection_string", "localhost:6379")).split(","):
        name, is_option, text = part.partition("=")
        if not is_option:
            nodes.append(dict(zip(("host", "port"), part.split(":"), strict=False)))
            continue
        try:
            options[name] = json.loads(text)
        except json.JSONDecodeError:
            options[name] = text
    return nodes, options


def field_of(stored: str, feature: str) -> bytes:
    """The field of a feature in an entity's hash in Redis."""
    return struct.pack("<I", mmh3.hash(f"{stored}:{feature}", signed=False))


def event_time(stamp: bytes) -> float:
    """A stored event time in seconds since 1970. Raises StoreError if the value is not an event time."""
    try:
        found = Timestamp.FromString(stamp)
    except DecodeError as error:
        raise StoreError("Redis holds an event time that is none") from error
    return found.seconds + found.nanos / 1e9
