"""A new online store needs its module and its entry in the registry, and nothing else."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.hop.testing import served
from services.features.stores.online_store import KeyQuery, Rows
from services.features.wiring import SERVICE
from tests.services.features.calling import Features, get
from tests.services.features.conftest import NOW, planes, write_config

from feast import Entity, FeatureService, FeatureView, Field, FileSource  # isort: skip
from feast.infra.online_stores.online_store import OnlineStore  # isort: skip
from feast.protos.feast.types.Value_pb2 import Value  # isort: skip
from feast.repo_config import FeastConfigBaseModel  # isort: skip
from feast.types import Float64  # isort: skip
from feast.value_type import ValueType  # isort: skip

TYPE = f"{__name__}.DummyOnlineStore"
KEYS: dict[str, Sequence[object]] = {"tail": ["known", "unknown"]}


class DummyOnlineStoreConfig(FeastConfigBaseModel):
    """What feature_store.yaml may say of the dummy store."""

    type: str = TYPE


class DummyOnlineStore(OnlineStore):
    """Feast's side of the dummy store: it can be named in feature_store.yaml, and holds nothing."""

    def online_write_batch(self, *_args: Any, **_kwargs: Any) -> None: ...

    def online_read(self, *_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError("the service reads the store itself")

    def update(self, *_args: Any, **_kwargs: Any) -> None: ...

    def teardown(self, *_args: Any, **_kwargs: Any) -> None: ...


class DummyStore:
    """Our side: one entity, told by the end of its key."""

    def __init__(self, rating: float) -> None:
        self._row = (NOW.timestamp() - 60.0, (Value(double_val=rating).SerializeToString(),))

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        del timeout_s
        return [[self._row if key.endswith(b"\0known") else None for key in ask.keys] for ask in asks]

    def epoch(self) -> int:
        return -1

    def watch(self, changed: Callable[[bytes], None]) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    store = write_config(tmp_path, {"type": TYPE})
    tail = Entity(name="tail", join_keys=["tail"], value_type=ValueType.STRING)
    planes()[["tail", "rating", "event_timestamp"]].to_parquet(tmp_path / "planes.parquet")
    source = FileSource(path=str(tmp_path / "planes.parquet"), timestamp_field="event_timestamp")
    schema = [Field(name="rating", dtype=Float64)]
    view = FeatureView(name="planes", entities=[tail], schema=schema, source=source)
    store.apply([tail, view, FeatureService(name="small", features=[view])])
    return tmp_path


async def read(repo: Path) -> Features:
    async with served(SERVICE, {"repo": repo, "warm_up_s": 0.0}) as harness:
        return await get(harness, KEYS)


async def test_a_registered_store_is_read_by_the_service(
    repo: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.features.stores.registry import ONLINE_STORES

    monkeypatch.setitem(ONLINE_STORES, TYPE, lambda _config, _threads, _timeout_s: DummyStore(2.5))
    found = await read(repo)
    assert found.values["rating"] == [2.5, None]
    assert found.sources("planes") == ["PRESENT", "NOT_FOUND"]
    assert found.ages_s("planes")[0] == 60.0
