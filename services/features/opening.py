"""Opens what feature_store.yaml names: the registry and the online store. Imports Feast, which takes seconds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.features.feast_layout import redis_nodes, sqlite_path
from services.features.feast_registry import FeastRegistry
from services.features.ports import OnlineStore, StoreError
from services.features.redis_client import RedisClientStore, client_of
from services.features.redis_layout import RedisLayout
from services.features.redis_store import RedisStore, serves
from services.features.sqlite_store import SqliteStore


def open_feast(
    repo: Path, threads: ThreadPoolExecutor, timeout_s: float
) -> tuple[FeastRegistry, OnlineStore]:
    """The registry and the online store of the repository in `repo`. Connects to nothing yet. Raises StoreError.

    `threads`: for blocking reads. `timeout_s`: of one attempt to reach a server.
    """
    registry = FeastRegistry(repo)
    config = registry.store.config
    online = config.online_store
    if config.entity_key_serialization_version != 3:
        raise StoreError("entity_key_serialization_version must be 3, Feast's current one")
    if online.type == "sqlite":
        return registry, SqliteStore(Path(sqlite_path(config)), config.project, threads)
    if online.type == "redis":
        nodes, options = redis_nodes(config)
        layout = RedisLayout(config.project)
        if online.redis_type.value == "redis" and serves(options):
            host, port = nodes[0]["host"], int(nodes[0].get("port", 6379))
            return registry, RedisStore(host, port, options, layout)
        make = client_of(online.redis_type.value, nodes, options, online.sentinel_master, timeout_s)
        return registry, RedisClientStore(make, layout)
    raise StoreError(f"the online store is of type {online.type}; sqlite and redis are served")
