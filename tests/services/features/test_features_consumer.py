"""Events of a Redis Stream end up in the online store: the newest of each entity, and none twice or lost."""

import asyncio
import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import asyncio as client_of

from headrace.hop.testing import Harness
from tests.redis_server import RedisServer
from tests.services.features.calling import Features, get, serving
from tests.services.features.conftest import NOW
from tests.services.waiting import until

STREAM, REJECTED = "headrace:features", "headrace:features:rejected"
TIME = "event_timestamp"
PLANE: dict[str, Any] = {"seats": 3, "rating": 0.5, "model": "m"}


def pushed(tail: str, seats: int, age_s: float, **changes: Any) -> dict[str, str]:
    """An event of a plane."""
    moment = (NOW - timedelta(seconds=age_s)).isoformat()
    row = {"tail": tail, "rating": 0.5, "seats": seats, "model": "pushed", TIME: moment, **changes}
    return {"view": "planes", "row": json.dumps(row)}


async def add(client: client_of.Redis, fields: dict[str, str]) -> Any:
    return await client.xadd(STREAM, fields)  # type: ignore[arg-type]  # str keys are fine


async def ask(harness: Harness, tails: list[str]) -> Features:
    count = len(tails)
    return await get(harness, {"tail": tails, "airport": [1] * count, "carrier": ["UA"] * count})


@pytest.mark.parametrize("kind", ["own_sqlite_repo", "redis_repo"])
async def test_the_newest_event_wins_in_whatever_order_they_come(
    request: pytest.FixtureRequest, redis: RedisServer, now: datetime, kind: str
) -> None:
    repo: Path = request.getfixturevalue(kind)
    events = [(f"new{i}", age) for i in range(10) for age in range(0, 50, 10)]
    random.Random(3).shuffle(events)
    stream = {"url": f"redis://127.0.0.1:{redis.port}", "batch": 7}
    async with (
        client_of.Redis(port=redis.port) as client,
        serving(repo, store_timeout_s=2.0, stream=stream) as harness,
    ):
        for tail, age in events:
            await add(client, pushed(tail, 1000 - age, age))
        # Older than what is there from the start.
        last = await add(client, pushed("p1", 1, 3600))

        async def done() -> bool:
            groups = await client.xinfo_groups(STREAM)
            return bool(groups) and groups[0]["pending"] == 0 and groups[0]["last-delivered-id"] == last

        await until(done)
        tails = [f"new{i}" for i in range(10)] + ["p1"]
        found = await ask(harness, tails)
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
        pushed("y", 1, 0, event_timestamp="soon"),
    ]
    async with (
        client_of.Redis(port=redis.port, decode_responses=True) as client,
        serving(redis_repo, stream=stream) as harness,
    ):
        for fields in [bad[0], bad[1], pushed("good", 7, 0), *bad[2:]]:
            await add(client, fields)

        async def all_rejected() -> bool:
            return bool(await client.xlen(REJECTED) == len(bad))

        await until(all_rejected)
        rejected = await client.xrange(REJECTED)
        assert (await ask(harness, ["good"])).values["seats"] == [7]
    assert all(fields["why"] for _, fields in rejected)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"tail": "x"}, TIME),
        ({**PLANE, TIME: 1.0}, "need tail"),
        ({**PLANE, "tail": None, TIME: 1.0}, "null in tail"),
        ({**PLANE, "tail": "x", TIME: None}, f"null in {TIME}"),
    ],
)
async def test_an_event_that_lacks_something_is_set_aside_also_beside_good_ones(
    redis: RedisServer, redis_repo: Path, now: datetime, row: dict[str, Any], why: str
) -> None:
    """They are written as one table, in which what a row lacks would look like a null."""
    stream = {"url": f"redis://127.0.0.1:{redis.port}"}
    async with client_of.Redis(port=redis.port, decode_responses=True) as client:
        # Before the service starts, so that it reads them at once.
        await add(client, pushed("good", 7, 0))
        await add(client, {"view": "planes", "row": json.dumps(row)})
        async with serving(redis_repo, stream=stream) as harness:
            await until(lambda: client.xlen(REJECTED))
            [(_, fields)] = await client.xrange(REJECTED)

            async def written() -> bool:
                return (await ask(harness, ["good"])).values["seats"] == [7]

            await until(written)
    assert why in fields["why"]


async def test_it_goes_on_after_a_server_restart(redis: RedisServer, redis_repo: Path, now: datetime) -> None:
    stream = {"url": f"redis://127.0.0.1:{redis.port}"}
    async with serving(redis_repo, stream=stream) as harness:
        redis.kill()
        await asyncio.sleep(0.3)
        redis.start()
        async with client_of.Redis(port=redis.port) as client:
            await add(client, pushed("late", 9, 0))

        async def written() -> bool:
            return (await ask(harness, ["late"])).values["seats"] == [9]

        await until(written)
