"""What is slow only once is over before the first caller comes; a store that stays slow or silent holds nothing up."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from headrace.columns import DType
from headrace.hop.testing import served
from services.features.plan.assembly import assemble
from services.features.plan.plan import Feature, JoinKey, ServicePlan, ViewPlan, ViewSelection
from services.features.stores.online_store import KeyQuery, Rows, StoreError
from services.features.warm_up import WarmUp, WarmUpLimits
from services.features.wiring import SERVICE
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.services.features.calling import get, metrics_of, serving

KEYS: dict[str, Sequence[object]] = {"tail": ["p1"], "airport": [1], "carrier": ["UA"]}
COLD_REPLIES = 5
COLD_S = 0.3


@asynccontextmanager
async def cold(target: int) -> AsyncIterator[int]:
    """A way to the server at `target`, whose first replies take their time: the port where it begins."""
    left = [COLD_REPLIES]
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool) -> None:
        while data := await reader.read(1 << 16):
            if back and left[0]:
                left[0] -= 1
                await asyncio.sleep(COLD_S)
            writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", target)
        writers.extend((writer, there))
        await asyncio.gather(pump(reader, there, False), pump(there_reader, writer, True))

    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def test_no_caller_meets_a_cold_store(redis: RedisServer, redis_repo: Path, now: datetime) -> None:
    configuration = redis_repo / "feature_store.yaml"
    async with cold(redis.port) as port:
        configuration.write_text(configuration.read_text().replace(str(redis.port), str(port)))
        async with serving(redis_repo, store_timeout_s=0.2, warm_up_s=20.0) as harness:
            found = await get(harness, KEYS)
            text = metrics_of(harness)
    assert found.sources("planes") == ["PRESENT"]
    # What was read ahead is nobody's traffic.
    assert "headrace_features_store_errors_total{" not in text
    assert 'headrace_features_rows_total{source="present",view="planes"} 1.0' in text
    assert 'source="not_found"' not in text


async def test_a_store_that_says_nothing_does_not_hold_up_the_start(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        async with served(SERVICE, {"repo": redis_repo, "warm_up_s": 0.2}) as harness:
            assert time.monotonic() - began < 60
            assert (await get(harness, KEYS)).sources("planes") == ["DEFAULT"]
    finally:
        redis.signal(signal.SIGCONT)


class Slow:
    """A store and Feast's own way, on a clock of their own: each read takes the next of `takes`, or fails."""

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

    async def read(self, asks: Any, *rest: Any) -> Sequence[Rows]:
        if isinstance(asks, ServicePlan):
            given, rows, timeout_s = rest
            assert [len(values) for values in given.values()] == [rows] * len(asks.fallback_inputs)
            self.asked.append((f"stock {asks.name}", rows))
        else:
            (timeout_s,) = rest
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
STOCK = ServicePlan("odd", (VIEWS["a"],), (), (1,), (), "r", "odd", (Feature("k", "int64_val"),))
ALL = [("a+b", 1), ("a+b", 16), ("a+b", 300), ("stock odd", 1), ("stock odd", 16), ("stock odd", 300)]


@pytest.mark.parametrize(
    ("takes", "warm", "asked", "waited_s"),
    [
        ([], True, ALL, 0.006),
        ([0.5, 0.2, 0.01], True, ALL[:1] * 2 + ALL, 0.715),
        # Down: each is tried once.
        ([None] * 6, False, ALL, 0.0),
        # Never good: given up in time.
        ([0.4] * 9, False, ALL[:1] * 3, 1.0),
        ([9.0], False, ALL[:1], 1.0),
    ],
)
async def test_it_reads_until_that_is_quick_and_gives_up_in_time(
    takes: list[float | None], warm: bool, asked: list[tuple[str, int]], waited_s: float
) -> None:
    slow = Slow(takes)
    warmer = WarmUp(slow, slow, slow.clock, structlog.get_logger())
    assert await warmer.warm([PLAN, STOCK], WarmUpLimits(good_s=0.1, limit_s=1.0)) == warm
    assert slow.asked == asked
    assert slow.now - 100.0 == pytest.approx(waited_s)
