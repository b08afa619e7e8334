"""Opens what feature_store.yaml names: the registry and the online store. Imports Feast, which takes seconds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from feast import RepoConfig

from services.features.feast.layout import limit_waiting, redis_nodes, sqlite_path
from services.features.feast.registry import FeastRegistry
from services.features.stores.feast_fallback import NoStore, StockReader
from services.features.stores.online_store import OnlineStore
from services.features.stores.redis import RedisStore, serves
from services.features.stores.redis_client import RedisClientStore, client_of
from services.features.stores.redis_layout import RedisLayout
from services.features.stores.sqlite import SqliteStore


def open_feast(
    repo: Path, threads: ThreadPoolExecutor, timeout_s: float
) -> tuple[FeastRegistry, OnlineStore, StockReader]:
    """The registry, the online store and Feast's own way of reading, of the repository in `repo`.

    Connects to nothing yet. Raises StoreError.

    `threads`: for blocking reads. `timeout_s`: of one attempt to reach a server.
    """
    registry = FeastRegistry(repo)
    config = registry.store.config
    stock = StockReader(registry.store, threads)
    store = _direct(config, threads, timeout_s)
    if store is None:
        registry.leave_to_feast(f"the online store is of type {config.online_store.type}")
        return registry, NoStore(), stock
    limit_waiting(config, timeout_s)
    return registry, store, stock


def _direct(config: RepoConfig, threads: ThreadPoolExecutor, timeout_s: float) -> OnlineStore | None:
    """The store as we read it; None if only Feast can."""
    online = config.online_store
    if config.entity_key_serialization_version != 3:
        return None
    if online.type == "sqlite":
        return SqliteStore(Path(sqlite_path(config)), config.project, threads)
    if online.type != "redis":
        return None
    nodes, options = redis_nodes(config)
    layout = RedisLayout(config.project)
    if online.redis_type.value == "redis" and serves(options):
        return RedisStore(nodes[0]["host"], int(nodes[0].get("port", 6379)), options, layout)
    make = client_of(online.redis_type.value, nodes, options, online.sentinel_master, timeout_s)
    return RedisClientStore(make, layout)
