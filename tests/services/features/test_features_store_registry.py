"""A new online store needs its module and its entry in the registry, and nothing else."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from services.features.stores.online_store import KeyQuery, Rows
from services.features.stores.registry import ONLINE_STORES
from tests.services.features.calling import get, serving
from tests.services.features.conftest import NOW

from feast.protos.feast.types.Value_pb2 import Value  # isort: skip

KEYS: dict[str, Sequence[object]] = {"tail": ["known", "unknown"], "airport": [1, 1], "carrier": ["UA", "UA"]}


class DummyStore:
    """One plane, told by the end of its key."""

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        rating, seats = Value(double_val=2.0), Value(int64_val=2)
        row = NOW.timestamp() - 60.0, (rating.SerializeToString(), seats.SerializeToString(), b"")
        return [[row if key.endswith(b"\0known") else None for key in ask.keys] for ask in asks]

    def epoch(self) -> int:
        return -1

    def watch(self, changed: Callable[[bytes], None]) -> None: ...

    async def close(self) -> None: ...


async def test_a_registered_store_is_read_by_the_service(
    own_sqlite_repo: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = own_sqlite_repo / "feature_store.yaml"
    configuration.write_text(configuration.read_text().replace("type: sqlite", "type: dummy"))
    monkeypatch.setitem(ONLINE_STORES, "dummy", lambda _config, _threads, _timeout_s: DummyStore())
    async with serving(own_sqlite_repo, warm_up_s=0.0) as harness:
        found = await get(harness, KEYS)
    assert (found.values["rating"], found.values["seats"]) == ([2.0, None], [2, None])
    assert found.sources("planes") == ["PRESENT", "NOT_FOUND"]
    assert found.ages_s("planes")[0] == 60.0
