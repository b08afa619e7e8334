"""The extraction guard at two doors with one Redis: a budget is spent once, a row is free at every door, nothing gets lost."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace.state.redis import RedisCalls
from services.ingress.admission.extraction_guard import ExtractionGuard
from services.ingress.admission.quotas import QuotaFault
from services.ingress.admission.row_key import RowKey
from services.ingress.sharing import books, queries
from services.ingress.sharing.books import Books
from services.ingress.sharing.queries import MergedQueries, TableShare
from tests.libs.state.valkey import Valkey
from tests.services.ingress.test_ingress_guarding import NOON, PIPE, batch, call
from tests.services.monitoring.monitoring_outcomes import Log

BUDGET = 1000


class Door:
    def __init__(self, url: str, name: str, folder: Path | None = None) -> None:
        self.now, self.disconnected, self.log = 0.0, False, Log()
        self.calls = RedisCalls(url, 5.0, lambda: self.now, pause_s=0.05)
        key = RowKey(folder, print)
        self.books = Books(self.calls, name, key)
        self.merged = MergedQueries(
            self.books, lambda: self.now, lambda: 2, lambda: self.disconnected, self.log
        )
        self.events: list[str] = []
        self.guard = ExtractionGuard(
            folder,
            key,
            lambda: NOON + self.now,
            lambda kind, *_: self.events.append(kind),
            lambda _: None,
            self.merged,
        )

    def passes(self, rows: Sequence[int], budget: int = BUDGET) -> bool:
        try:
            self.guard.check(call(budget), PIPE, batch(rows))
        except QuotaFault as fault:
            self.wait = fault.retry_after_s
            return False
        return True

    @property
    def share(self) -> TableShare:
        """Of the only table."""
        [share] = self.merged._tables.values()
        return share

    async def refresh(self) -> None:
        self.now += 0.1
        await self.merged.refresh()


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[tuple[Door, Door, Valkey]]:
    with Valkey(tmp_path) as server:
        made = Door(server.url, "one"), Door(server.url, "two")
        for door in made:
            await door.books.hello()
        yield *made, server
        for door in made:
            await door.calls.close()


def unseen(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1


async def spend(doors: Sequence[Door], size: int, rounds: int) -> int:
    """Different rows that passed, of far more than the budget at each door."""
    passed, sources = 0, [unseen(1_000_000 * (i + 1)) for i in range(len(doors))]
    for _ in range(rounds):
        for door, source in zip(doors, sources, strict=True):
            for _ in range(300 // size + 1):
                passed += size * door.passes([next(source) for _ in range(size)])
        for door in doors:
            await door.refresh()
    return passed


@pytest.mark.parametrize("size", [1, 16])
async def test_a_budget_is_spent_once(doors: tuple[Door, Door, Valkey], size: int) -> None:
    *both, _ = doors
    # Less than one request may be left.
    assert BUDGET * 0.98 - size <= await spend(both, size, 25) <= BUDGET * 1.02
    assert not both[0].passes(range(40))
    assert both[0].wait == pytest.approx(86_400 / 2, rel=0.01)  # until midnight
    assert "extraction_guard" in both[0].events


async def test_one_door_may_spend_all_of_it(doors: tuple[Door, Door, Valkey]) -> None:
    one, _, _ = doors
    assert BUDGET * 0.98 <= await spend([one], 10, 30) <= BUDGET


async def test_a_row_that_was_sent_to_one_door_is_free_at_the_other(doors: tuple[Door, Door, Valkey]) -> None:
    one, two, _ = doors
    rows = list(range(50))
    assert one.passes(rows)
    await one.refresh()
    assert two.passes([0])
    await two.refresh()
    assert two.passes(rows)
    await two.refresh()
    assert one.merged._tables.keys() == two.merged._tables.keys()
    assert two.share.count == 50


async def test_what_was_counted_without_redis_is_told_later_and_what_redis_lost_again(
    doors: tuple[Door, Door, Valkey], tmp_path: Path
) -> None:
    one, two, server = doors
    assert one.passes(range(60))
    await one.refresh()
    await one.refresh()
    server.kill()
    one.disconnected = True
    passed = sum(one.passes([n]) for n in range(1_000, 3_000))
    assert passed == (BUDGET - 60) // 2  # its part of what is left; nothing fails before
    await one.refresh()
    server.start()
    Redis.from_url(server.url).flushall()
    one.disconnected = False
    for _ in range(5):
        await one.refresh()
    assert two.passes([1])
    for _ in range(5):
        await two.refresh()
    assert two.share.count == 60 + passed
    assert all(two.passes([n]) for n in range(60))
    assert two.share.count == 60 + passed


async def test_a_table_that_is_something_else_stops_that_table_alone(
    doors: tuple[Door, Door, Valkey],
) -> None:
    one, _, server = doors
    assert one.passes([1])
    await one.refresh()
    redis: Any = Redis.from_url(server.url)
    [key] = redis.keys("headrace:quotas:*rows")
    redis.delete(key)
    redis.set(key, "rubbish")
    assert one.passes([2])
    for _ in range(2):
        await one.refresh()
    assert one.passes([3])
    assert len([event for event in one.log.events if "different queries are not shared" in event]) == 1
    redis.delete(key)
    for _ in range(3):
        await one.refresh()
    assert len(rows_in(redis)) == 3
    [book] = redis.keys("headrace:quotas:*budget")
    redis.set(book, "rubbish")
    assert one.passes([4])
    await one.refresh()
    assert len([event for event in one.log.events if "different queries are not shared" in event]) == 2
    redis.delete(book)
    await one.refresh()
    await one.refresh()
    assert len(rows_in(redis)) == 4


async def test_a_door_that_has_not_read_all_counts_with_what_the_others_know(
    doors: tuple[Door, Door, Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, server = doors
    for number in range(0, 600, 10):
        while not one.passes(range(number, number + 10)):
            await one.refresh()
        await one.refresh()
    monkeypatch.setattr(books, "_ENTRIES", 2)
    monkeypatch.setattr(queries, "_READS", 3)
    assert two.passes([5_000])
    await two.refresh()
    assert two.share.count == 601
    assert two.share.table.count < 100
    assert two.share.grant <= BUDGET - 601
    while two.share.due:
        await two.refresh()
    assert two.share.count == two.share.table.count == len(rows_in(Redis.from_url(server.url))) == 601


def rows_in(redis: Any) -> list[bytes]:
    """The rows of the only table, as they were told."""
    [key] = redis.keys("headrace:quotas:*rows")
    packed = b"".join(fields[b"rows"] for _, fields in redis.xrange(key))
    return [packed[at : at + 8] for at in range(0, len(packed), 8)]


async def test_a_door_that_starts_again_reads_all_first_and_tells_nothing_twice(
    doors: tuple[Door, Door, Valkey], tmp_path: Path
) -> None:
    one, _, server = doors
    redis: Any = Redis.from_url(server.url)
    folder, budget = tmp_path / "queries", 20_000
    first = Door(server.url, "first", folder)
    assert one.passes(range(100_000, 100_100), budget)
    await one.refresh()
    for number in range(0, 12_000, 100):
        while not first.passes(range(number, number + 100), budget):
            await first.refresh()
        await first.refresh()
    assert len(rows_in(redis)) == 12_100
    again = Door(server.url, "again", folder)
    assert again.passes([50_000], budget)
    await again.refresh()
    assert again.share.count == 12_101
    await again.refresh()
    assert len(rows_in(redis)) == len(set(rows_in(redis))) == 12_101
    assert again.share.total == 12_101
    for door in (first, again):
        await door.calls.close()
