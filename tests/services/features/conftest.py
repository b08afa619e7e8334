"""A small real Feast repository: two views, one with a time to live, on SQLite or on a real Redis."""

import gc
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

# Before Feast, whose import sets PROMETHEUS_MULTIPROC_DIR: metrics would then outlive their registry.
from services.features import wiring
from tests.redis_server import RedisServer
from tests.services.features.calling import SQLITE

with warnings.catch_warnings():
    # Feast's own imports warn about what they import.
    warnings.simplefilter("ignore")
    import pandas as pd
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Array, Bool, Float32, Float64, Int64, String
    from feast.value_type import ValueType

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TTL = timedelta(hours=6)
ENTITIES = 300


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The service's wall clock, standing still."""
    monkeypatch.setattr(wiring, "WALL", NOW.timestamp)
    return NOW


def create_repo(folder: Path, online: dict[str, object]) -> FeatureStore:
    """Planes p0…p299 (every fifth older than the time to live, every seventh without a rating) and 3 airports."""
    store = write_config(folder, online)
    store.apply(_definitions(folder))
    store.write_to_online_store("planes", planes())
    store.write_to_online_store("airports", airports())
    store.write_to_online_store("lists", lists())
    return store


def write_config(folder: Path, online: dict[str, object]) -> FeatureStore:
    """A repository without definitions."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "project": "small",
        "provider": "local",
        "registry": {"path": "registry.db", "cache_ttl_seconds": 0},
        "online_store": online,
        "offline_store": {"type": "dask"},
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    return FeatureStore(repo_path=str(folder))


def planes() -> pd.DataFrame:
    numbers = range(ENTITIES)
    return pd.DataFrame(
        {
            "tail": [f"p{i}" for i in numbers],
            "rating": [None if i % 7 == 0 else i / 7 for i in numbers],
            "seats": [100 + i for i in numbers],
            "model": [f"model {i % 4}" for i in numbers],
            "event_timestamp": [
                NOW - (TTL + timedelta(seconds=1) if i % 5 == 0 else timedelta(minutes=i % 300))
                for i in numbers
            ],
        }
    )


def airports() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "airport": [1, 2, 3],
            "carrier": ["UA", "UA", "DL"],
            "delay": [1.5, -2.5, 40.0],
            "open": [True, False, True],
            "event_timestamp": [NOW - timedelta(days=400)] * 3,
        }
    )


def lists() -> pd.DataFrame:
    return pd.DataFrame(
        {"tail": ["p1", "p2"], "history": [[1.0, 2.5], [-3.0]], "event_timestamp": [NOW, NOW]}
    )


def _definitions(folder: Path) -> list[Any]:
    for name, frame in (("planes", planes()), ("airports", airports()), ("lists", lists())):
        frame.to_parquet(folder / f"{name}.parquet")
    tail = Entity(name="tail", join_keys=["tail"], value_type=ValueType.STRING)
    airport = Entity(name="airport", join_keys=["airport"], value_type=ValueType.INT64)
    carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING)

    def view(name: str, entities: list[Entity], ttl: timedelta, **types: Any) -> FeatureView:
        source = FileSource(path=str(folder / f"{name}.parquet"), timestamp_field="event_timestamp")
        schema = [Field(name=field, dtype=dtype) for field, dtype in types.items()]
        return FeatureView(name=name, entities=entities, ttl=ttl, schema=schema, source=source)

    views = [
        view("planes", [tail], TTL, rating=Float64, seats=Int64, model=String),
        view("airports", [airport, carrier], timedelta(0), delay=Float32, open=Bool),
    ]
    listed = view("lists", [tail], timedelta(0), history=Array(Float64))
    renamed = views[0].with_name("renamed").with_join_key_map({"tail": "other_tail"})
    services = [
        FeatureService(name="small", features=[*views]),
        FeatureService(name="aliased", features=[renamed]),
        FeatureService(name="lists", features=[listed]),
    ]
    return [tail, airport, carrier, *views, listed, *services]


@pytest.fixture(scope="session")
def sqlite_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sqlite-repo")
    create_repo(folder, SQLITE)
    return folder


@pytest.fixture
def own_sqlite_repo(tmp_path: Path) -> Path:
    """For a test that changes it."""
    create_repo(tmp_path / "feast", SQLITE)
    return tmp_path / "feast"


@pytest.fixture
def redis_with(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers with more options."""
    servers: list[RedisServer] = []

    def start(*options: object, tls: bool = False) -> RedisServer:
        server = RedisServer(tmp_path, *options, tls=tls)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()
    # Feast has no way to close its Redis clients: they are collected here, not in the midst of someone else's test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def redis(redis_with: Callable[..., RedisServer]) -> RedisServer:
    return redis_with()


@pytest.fixture
def redis_repo(tmp_path: Path, redis: RedisServer) -> Path:
    folder = tmp_path / "redis-repo"
    create_repo(folder, {"type": "redis", "connection_string": f"127.0.0.1:{redis.port}"})
    return folder
