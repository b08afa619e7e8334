"""The feature store on disk: its tables, Feast's configuration, registry and online store."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import yaml
from feast import FeatureStore

from deploy.pipelines.flights.feature_repo import PROJECT, TIME, VIEWS, definitions
from deploy.pipelines.flights.history import congestion, route_history, tail_history
from deploy.pipelines.flights.sources import Sources

Tables = Mapping[str, pd.DataFrame]


def tables(sources: Sources) -> dict[str, pd.DataFrame]:
    """The feature tables by view, with the original event times."""
    planes = sources.planes.astype(dict.fromkeys(VIEWS["planes"][2], float))
    # The features of a plane are known before its first flight.
    planes[TIME] = sources.flights["asked_at"].min() - pd.Timedelta(days=1)
    return {
        "planes": planes,
        "tail_history": tail_history(sources.flights, sources.ends_at),
        "route_history": route_history(sources.flights, sources.ends_at),
        "congestion": congestion(sources.flights, sources.ends_at),
        "weather": sources.weather,
    }


def shifted(frames: Tables, by: pd.Timedelta) -> dict[str, pd.DataFrame]:
    """The same tables with every event time moved by `by`."""
    return {name: frame.assign(**{TIME: frame[TIME] + by}) for name, frame in frames.items()}


def write_tables(frames: Tables, data: Path) -> None:
    """Writes `data/<view>.parquet`, each replaced in one step, so that no reader sees a part of a table."""
    data.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        keys, _, features = VIEWS[name]
        partial = data / f".{name}.parquet"
        frame[[*keys, TIME, *features]].to_parquet(partial, index=False)
        partial.replace(data / f"{name}.parquet")


def create(folder: Path, data: Path, redis: str = "") -> FeatureStore:
    """Writes feature_store.yaml into `folder` and registers the definitions.

    `redis`: "host:port[,option=value…]" of the online store; "": SQLite in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    online = (
        {"type": "redis", "connection_string": redis}
        if redis
        else {"type": "sqlite", "path": "online_store.db"}
    )
    config = {
        "project": PROJECT,
        "provider": "local",
        "registry": {"path": "registry.db", "cache_ttl_seconds": 0},
        "online_store": online,
        "offline_store": {"type": "dask"},
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    store = FeatureStore(repo_path=str(folder))
    store.apply(definitions(data))
    if not redis:
        # Readers can continue while a new materialisation is written.
        connection = sqlite3.connect(folder / "online_store.db")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    return store
