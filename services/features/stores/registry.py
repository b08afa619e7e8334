"""The online stores that the service reads directly. Opens the one that feature_store.yaml names.

To add a store: write a module beside this one with an `OnlineStore` and a function that opens it, add that function to
`ONLINE_STORES`, and test it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from services.features.feast.registry import FeastRegistry
from services.features.feast.repository import Repository, read_repository
from services.features.stores import redis, sqlite
from services.features.stores.online_store import OnlineStore, StoreError

Open: TypeAlias = Callable[[Repository, ThreadPoolExecutor, float], OnlineStore]
"""Opens the store of a feature repository, without connecting. Takes threads for blocking reads, and the timeout (seconds)
of one attempt to reach a server. Raises StoreError."""

ONLINE_STORES: dict[str, Open] = {"redis": redis.open_store, "sqlite": sqlite.open_store}
"""By `online_store.type` in feature_store.yaml."""

_KEY_VERSION = 3


def open_feast(
    repo: Path, threads: ThreadPoolExecutor, timeout_s: float
) -> tuple[FeastRegistry, OnlineStore]:
    """The registry and the online store of the repository in `repo`.

    Connects to nothing yet. Raises StoreError. `threads`, `timeout_s`: see `Open`.
    """
    repository = read_repository(repo)
    open_store = ONLINE_STORES.get(repository.online_type)
    if open_store is None:
        known = " or ".join(ONLINE_STORES)
        raise StoreError(f"an online store of type {repository.online_type} can't be read; use {known}")
    if repository.key_version != _KEY_VERSION:
        raise StoreError(
            f"its entity_key_serialization_version is {repository.key_version}; use {_KEY_VERSION}"
        )
    return FeastRegistry(repository), open_store(repository, threads, timeout_s)
