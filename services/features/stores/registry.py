"""The online stores that the service reads directly. Opens the one that feature_store.yaml names.

To add a store: write a module beside this one with an `OnlineStore` and a function that opens it, add that function to
`ONLINE_STORES`, and test it. All other stores are read by Feast itself, which is several times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from services.features.feast.registry import FeastRegistry
from services.features.feast.repository import FeastClient, Repository, read_repository
from services.features.plan.plan import Unsupported
from services.features.stores import redis, sqlite
from services.features.stores.feast_fallback import FeastReader, UnreadableStore
from services.features.stores.online_store import OnlineStore

Open: TypeAlias = Callable[[Repository, ThreadPoolExecutor, float], OnlineStore]
"""Opens the store of a feature repository, without connecting. Takes threads for blocking reads, and the timeout (seconds)
of one attempt to reach a server. Raises Unsupported: it is left to Feast."""

ONLINE_STORES: dict[str, Open] = {"redis": redis.open_store, "sqlite": sqlite.open_store}
"""By `online_store.type` in feature_store.yaml."""

_KEY_VERSION = 3


def open_feast(
    repo: Path, threads: ThreadPoolExecutor, timeout_s: float
) -> tuple[FeastRegistry, OnlineStore, FeastReader]:
    """The registry, the online store and Feast's own reader, of the repository in `repo`.

    Connects to nothing yet. Raises StoreError. `threads`, `timeout_s`: see `Open`.
    """
    repository = read_repository(repo)
    client = FeastClient(repository, timeout_s)
    registry = FeastRegistry(repository, client)
    store: OnlineStore = UnreadableStore()
    open_store = ONLINE_STORES.get(repository.online_type)
    try:
        if open_store is None or repository.key_version != _KEY_VERSION:
            raise Unsupported(f"the online store is of type {repository.online_type}")
        store = open_store(repository, threads, timeout_s)
    except Unsupported as why:
        registry.leave_to_feast(str(why))
    return registry, store, FeastReader(client, threads)
