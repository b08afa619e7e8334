"""Events of a Redis Stream end up in the online store: the newest of each entity, and none twice or lost."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import asyncio as client_of

from headrace.hop.testing import served
from services.features.wiring import SERVICE
from tests.redis_server import RedisServer
from tests.services.features.calling import ask_columns, entity_column
from tests.services.features.conftest import NOW, PATIENT, create_repo

KEYS = [entity_column("airport", [1]), entity_column("carrier", ["UA"])]


def event(tail: str, seats: int, age_s: float) -> dict[str | bytes, str]:
    moment = (NOW - timedelta(seconds=age_s)).isoformat()
    row = {"tail": tail, "rating": 0.5, "seats": seats, "model": "pushed", "event_timestamp": moment}
    return {"view": "planes", "row": json.dumps(row)}


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 30
    while not await true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
def sqlite_copy(tmp_path: Path) -> Path:
    create_repo(tmp_path / "sqlite-copy", {"type": "sqlite", "path": "online_store.db"})
    return tmp_path / "sqlite-copy"


@pytest.mark.parametrize("kind", ["sqlite_copy", "redis_repo"])
async def test_the_newest_event_wins_in_whatever_order_they_come(
    request: pytest.FixtureRequest, redis: RedisServer, now: datetime, kind: str
) -> None:
    repo: Path = request.getfixturevalue(kind)
    events = [(f"new{i}", age) for i in range(10) for age in range(0, 50, 10)]
    random.Random(3).shuffle(events)
    stream = {"url": f"redis://127.0.0.1:{redis.port}", "batch": 7}
    async with (
        client_of.Redis(port=redis.port) as client,
        served(SERVICE, {"repo": repo, "store_timeout_s": 2.0, "stream": stream}) as harness,
    ):
        for tail, age in events:
            await client.xadd("headrace:features", event(tail, 1000 - age, age))  # type: ignore[arg-type]  # str keys are fine
        # Older than what is there from the start.
        last = await client.xadd("headrace:features", event("p1", 1, 3600))  # type: ignore[arg-type]  # as above

        async def done() -> bool:
            groups = await client.xinfo_groups("headrace:features")
            return bool(groups) and groups[0]["pending"] == 0 and groups[0]["last-delivered-id"] == last

        await until(done)
        tails = entity_column("tail", [f"new{i}" for i in range(10)] + ["p1"])
        rest = [entity_column("airport", [1] * 11), entity_column("carrier", ["UA"] * 11)]
        found = await ask_columns(harness, [tails, *rest])
    assert found.values["seats"] == [1000] * 10 + [101]
    assert found.ages_s("planes")[:10] == [0.0] * 10


async def test_what_can_not_be_written_is_set_aside_with_the_reason(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    stream = {"url": f"redis://127.0.0.1:{redis.port}"}
    bad: list[dict[str, str]] = [
        {"row": "{}"},
        {"view": "planes", "row": "{"},
        {"view": "planes", "row": "[]"},
        {"view": "nothing", "row": "{}"},
        {"view": "planes", "row": '{"tail": "x"}'},
        {
            "view": "planes",
            "row": json.dumps(json.loads(event("y", 1, 0)["row"]) | {"event_timestamp": "soon"}),
        },
    ]
    async with (
        client_of.Redis(port=redis.port, decode_responses=True) as client,
        served(SERVICE, {"repo": redis_repo, "stream": stream, **PATIENT}) as harness,
    ):
        for fields in [bad[0], bad[1], event("good", 7, 0), *bad[2:]]:
            await client.xadd("headrace:features", fields)  # type: ignore[arg-type]  # as above

        async def done() -> bool:
            return bool(await client.xlen("headrace:features:rejected") == len(bad))

        await until(done)
        rejected = await client.xrange("headrace:features:rejected")
        found = await ask_columns(harness, [entity_column("tail", ["good"]), *KEYS])
    assert found.values["seats"] == [7]
    assert all(fields["why"] for _, fields in rejected)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"tail": "x"}, "event_timestamp"),
        ({"seats": 3, "rating": 0.5, "model": "m", "event_timestamp": 1.0}, "need tail"),
        ({"tail": None, "seats": 3, "rating": 0.5, "model": "m", "event_timestamp": 1.0}, "null in tail"),
        (
            {"tail": "x", "seats": 3, "rating": 0.5, "model": "m", "event_timestamp": None},
            "null in event_timestamp",
        ),
    ],
)
async def test_an_event_that_lacks_something_is_set_aside_also_beside_good_ones(
    redis: RedisServer, redis_repo: Path, now: datetime, row: dict[str, Any], why: str
) -> None:
    """They are written as one table, in which what a row lacks would look like a null."""
    stream = {"url": f"redis://127.0.0.1:{redis.port}"}
    async with client_of.Redis(port=redis.port, decode_responses=True) as client:
        # Before the service starts, so that it reads them at once.
        await client.xadd("headrace:features", event("good", 7, 0))  # type: ignore[arg-type]  # as above
        await client.xadd("headrace:features", {"view": "planes", "row": json.dumps(row)})
        async with served(SERVICE, {"repo": redis_repo, "stream": stream, **PATIENT}) as harness:

            async def done() -> bool:
                return bool(await client.xlen("headrace:features:rejected"))

            await until(done)
            [(_, fields)] = await client.xrange("headrace:features:rejected")

            async def there() -> bool:
                found = await ask_columns(harness, [entity_column("tail", ["good"]), *KEYS])
                return found.values["seats"] == [7]

            await until(there)
    assert why in fields["why"]


async def test_it_goes_on_after_the_server_was_away(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    stream = {"url": f"redis://127.0.0.1:{redis.port}"}
    async with served(SERVICE, {"repo": redis_repo, "stream": stream, **PATIENT}) as harness:
        redis.kill()
        await asyncio.sleep(0.3)
        redis.start()
        async with client_of.Redis(port=redis.port) as client:
            await client.xadd("headrace:features", event("late", 9, 0))  # type: ignore[arg-type]  # as above

        async def there() -> bool:
            found = await ask_columns(harness, [entity_column("tail", ["late"]), *KEYS])
            return found.values["seats"] == [9]

        await until(there)
