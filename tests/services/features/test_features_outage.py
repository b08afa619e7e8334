"""A store that dies, hangs and comes back, or whose file is deleted, cut off, overwritten or locked up: last-known values,
then defaults, then the store's again. What is slow only once is over before the first caller comes."""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import Batch, DType, Rows, encode
from headrace.hop.config import Telemetry as Settings
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.testing import Harness
from services.features.plan.assembly import assemble
from services.features.plan.plan import Feature, JoinKey, ServicePlan, ViewPlan, ViewSelection
from services.features.stores.online_store import KeyQuery, StoreError
from services.features.warm_up import warm_up
from tests.redis_server import RedisServer
from tests.services.features.calling import Features, entity_column, get, metrics_of, serving

KNOWN: dict[str, Sequence[object]] = {"tail": ["p1", "p2"], "airport": [1, 3], "carrier": ["UA", "DL"]}
UNSEEN: dict[str, Sequence[object]] = {"tail": ["p3"], "airport": [2], "carrier": ["UA"]}
SAMPLED = (("traceparent", f"00-{1:032x}-{2:016x}-01"),)


async def eventually(ask: Callable[[], Awaitable[Features]], sources: list[str]) -> Features:
    deadline = time.monotonic() + 60
    while True:
        found = await ask()
        if found.sources("planes") == sources:
            return found
        assert time.monotonic() < deadline, f"still {found.sources('planes')}, not {sources}"
        await asyncio.sleep(0.02)


def packed_request(entities: dict[str, Sequence[object]]) -> bytes:
    columns = [entity_column(name, values) for name, values in entities.items()]
    rows = Rows.one_request(len(columns[0]), "r", "t", time.monotonic() + 60)
    request = pb.GetFeaturesRequest(feature_service="small", batch=encode(Batch.of(rows, columns)))
    return request.SerializeToString()


async def test_the_span_of_a_call_says_what_was_not_the_stores(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    exporter = InMemorySpanExporter()
    telemetry = Telemetry("features", Settings(log_level="error", trace_ratio=1.0), exporter)
    async with (
        serving(redis_repo, telemetry=telemetry) as harness,
        grpc.aio.insecure_channel(harness.target) as channel,
    ):
        call: Any = channel.unary_unary("/headrace.api.features.v1.FeaturesService/GetFeatures")
        await call(packed_request(KNOWN), metadata=SAMPLED, timeout=60)
        redis.kill()
        await call(packed_request({**KNOWN, "tail": ["p1", "p3"]}), metadata=SAMPLED, timeout=60)
    noted = [
        {key: value for key, value in (span.attributes or {}).items() if key.startswith("features.")}
        for span in sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
    ]
    assert noted == [{}, {"features.planes": "stale=1 default=1", "features.airports": "stale=2"}]


async def test_what_is_remembered_is_not_served_beyond_its_time_to_live(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    async with serving(redis_repo) as harness:
        old: dict[str, Sequence[object]] = {"tail": ["p5"], "airport": [1], "carrier": ["UA"]}
        assert (await get(harness, old)).sources("planes") == ["OUTSIDE_MAX_AGE"]
        redis.kill()
        assert (await get(harness, old)).sources("planes") == ["DEFAULT"]


async def test_it_starts_while_the_store_is_down(redis: RedisServer, redis_repo: Path, now: datetime) -> None:
    redis.kill()
    async with serving(redis_repo) as harness:
        assert (await get(harness, KNOWN)).sources("planes") == ["DEFAULT", "DEFAULT"]
        redis.start()
        await eventually(lambda: get(harness, KNOWN), ["PRESENT", "PRESENT"])


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_off(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(5000)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_other_types(path: Path) -> None:
    with closing(sqlite3.connect(path)) as online:
        online.execute("UPDATE small_planes SET event_ts = 'soon'")
        online.execute("UPDATE small_airports SET event_ts = NULL")
        online.commit()


@pytest.mark.parametrize("fault", [delete, empty, cut_off, overwrite, replace_by_folder, of_other_types])
async def test_a_lost_file_leaves_last_known_values_then_defaults_and_recovers(
    own_sqlite_repo: Path, now: datetime, fault: Callable[[Path], None]
) -> None:
    path, copy = own_sqlite_repo / "online_store.db", own_sqlite_repo / "copy.db"
    shutil.copy(path, copy)
    async with serving(own_sqlite_repo) as harness:
        before = await get(harness, KNOWN)
        assert before.sources("planes") == ["PRESENT", "PRESENT"]
        fault(path)
        await eventually(lambda: get(harness, KNOWN), ["STALE", "STALE"])
        # Longer than a connection is trusted without a look at the file, and than the breaker is open.
        await all_the_while(harness, before.values["seats"])
        if path.is_dir():
            path.rmdir()
        copy.replace(path)
        await eventually(lambda: get(harness, KNOWN), ["PRESENT", "PRESENT"])
        assert (await get(harness, UNSEEN)).values["seats"] == [103]


async def all_the_while(harness: Harness, seats: list[object], for_s: float = 1.5) -> None:
    """What is known and what is not, while the store is lost: answers, never a failed call."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        stale = await get(harness, KNOWN)
        assert stale.sources("planes") == ["STALE", "STALE"]
        assert stale.values["seats"] == seats
        nothing = await get(harness, UNSEEN)
        assert nothing.sources("planes") == ["DEFAULT"]
        assert nothing.values["seats"] == [None]
        await asyncio.sleep(0.02)


async def test_the_store_was_read_before_the_first_caller_comes(redis: RedisServer, redis_repo: Path) -> None:
    redis.command("CONFIG", "RESETSTAT")
    async with serving(redis_repo) as harness:
        assert "cmdstat_hmget" in redis.command("INFO", "commandstats")
        text = metrics_of(harness)
    # What was read ahead is nobody's traffic.
    assert "headrace_features_store_errors_total{" not in text
    assert "headrace_features_rows_total{" not in text


class Slow:
    """A store on a clock of its own: each read takes the next of `takes`, or fails."""

    def __init__(self, takes: Sequence[float | None]) -> None:
        self.now = 100.0
        self.takes = list(takes)
        self.asked: list[tuple[str, int]] = []

    def clock(self) -> float:
        return self.now

    def _take(self, timeout_s: float) -> None:
        takes = self.takes.pop(0) if self.takes else 0.001
        if takes is None or takes > timeout_s:
            self.now += timeout_s if takes else 0.0
            raise StoreError("nothing")
        self.now += takes

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> list[Any]:
        self.asked.append(("+".join(ask.view.name for ask in asks), len(_distinct(asks))))
        self._take(timeout_s)
        return []

    def epoch(self) -> int:
        return -1

    def watch(self, changed: Callable[[bytes], None]) -> None: ...

    async def close(self) -> None: ...


def _distinct(asks: Sequence[KeyQuery]) -> set[bytes]:
    [keys] = {id(ask.keys): set(ask.keys) for ask in asks}.values()
    return keys


KEY = JoinKey("k", DType.INT64, "k")
VIEWS: Mapping[str, ViewPlan] = {
    name: ViewPlan(name, name, (KEY,), (Feature(f"f{name}", "double_val"),), 0.0) for name in "ab"
}
PLAN = assemble("both", [ViewSelection("a", ("fa",)), ViewSelection("b", ("fb",))], VIEWS, {})
UNREADABLE = ServicePlan("odd", (), (), (), (), "", "odd")
ALL = [("a+b", 1), ("a+b", 16), ("a+b", 300)]


@pytest.mark.parametrize(
    ("takes", "warm", "asked", "waited_s"),
    [
        ([], True, ALL, 0.003),
        ([0.5, 0.2, 0.01], True, ALL[:1] * 2 + ALL, 0.712),
        # Down: each is tried once.
        ([None] * 3, False, ALL, 0.0),
        # Never good: given up in time.
        ([0.4] * 9, False, ALL[:1] * 3, 1.0),
        ([9.0], False, ALL[:1], 1.0),
    ],
)
async def test_it_reads_until_that_is_quick_and_gives_up_in_time(
    takes: list[float | None], warm: bool, asked: list[tuple[str, int]], waited_s: float
) -> None:
    slow = Slow(takes)
    log = structlog.get_logger()
    assert await warm_up(slow, [UNREADABLE, PLAN], slow.clock, log, good_s=0.1, limit_s=1.0) == warm
    assert slow.asked == asked
    assert slow.now - 100.0 == pytest.approx(waited_s)
