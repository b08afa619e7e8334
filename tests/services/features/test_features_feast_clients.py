"""Feast's own clients get right answers: Feast's generated stubs, in another process, against the service."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.redis_server import RedisServer
from tests.services.features.calling import serving
from tests.services.features.conftest import NOW

CLIENT = Path(__file__).with_name("feast_client.py")
KeyQuery = Callable[..., Awaitable[dict[str, Any]]]


@asynccontextmanager
async def feast_client(target: str) -> AsyncIterator[KeyQuery]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", CLIENT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )

    async def ask(**request: Any) -> dict[str, Any]:
        process.stdin.write(json.dumps({"target": target, **request}).encode() + b"\n")
        async with asyncio.timeout(60):
            found: dict[str, Any] = json.loads(await process.stdout.readline())
        return found

    try:
        yield ask
    finally:
        process.stdin.close()
        await process.wait()


ENTITIES: dict[str, list[Any]] = {
    "tail": ["p1", "nobody", "p5", "p7", None],
    "airport": [1, 1, 9, 1, 1],
    "carrier": ["UA", "DL", "UA", "UA", "UA"],
}


async def test_values_statuses_and_times(sqlite_repo: Path, now: datetime) -> None:
    async with (
        serving(sqlite_repo) as harness,
        feast_client(harness.target) as ask,
    ):
        found = await ask(feature_service="small", entities=ENTITIES)
        by_reference = await ask(
            features=["planes:seats", "airports:delay", "planes:model"],
            entities=ENTITIES,
            full_feature_names=True,
        )
        lists = await ask(feature_service="lists", entities={"tail": ["p2", "p3", "p1"]})
        unknown = await ask(feature_service="nothing", entities=ENTITIES)
        unkeyed = await ask(feature_service="small", entities={"tail": ["p1"]})
        uneven = await ask(feature_service="small", entities={**ENTITIES, "tail": ["p1"]})
        mistyped = await ask(feature_service="small", entities={**ENTITIES, "tail": [1.5] * 5})
    features = found["features"]
    assert found["version"].startswith("0.67.")
    assert features["tail"]["values"] == ENTITIES["tail"]
    assert features["seats"]["values"] == [101, None, None, 107, None]
    statuses = ["PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE", "PRESENT", "NOT_FOUND"]
    assert features["seats"]["statuses"] == statuses
    assert features["rating"]["statuses"] == [*statuses[:3], "NULL_VALUE", "NOT_FOUND"]
    assert features["rating"]["values"] == [1 / 7, None, None, None, None]
    assert features["model"]["values"][0] == "model 1"
    assert features["open"]["values"] == [True, None, None, True, True]
    moment = int(NOW.timestamp())
    assert features["seats"]["times"] == [moment - 60, 0, moment - 6 * 3600 - 1, moment - 7 * 60, 0]
    assert set(by_reference["features"]) == {
        "tail", "airport", "carrier", "planes__seats", "planes__model", "airports__delay",
    }  # fmt: skip
    assert by_reference["features"]["planes__seats"] == features["seats"]
    assert lists["features"]["history"]["values"] == [[-3.0], None, [1.0, 2.5]]
    assert unknown["code"] == "NOT_FOUND"
    assert (unkeyed["code"], uneven["code"], mistyped["code"]) == ("INVALID_ARGUMENT",) * 3


async def test_an_outage_leaves_nothing_present(redis: RedisServer, redis_repo: Path, now: datetime) -> None:
    entities: dict[str, list[Any]] = {"tail": ["p1", "p2"], "airport": [1, 1], "carrier": ["UA", "UA"]}
    async with (
        serving(redis_repo) as harness,
        feast_client(harness.target) as ask,
    ):
        first = {name: values[:1] for name, values in entities.items()}
        assert (await ask(feature_service="small", entities=first))["trailing"] == {}
        redis.kill()
        found = await ask(feature_service="small", entities=entities)
    assert found["features"]["seats"]["values"] == [101, None]
    assert found["features"]["seats"]["statuses"] == ["OUTSIDE_MAX_AGE", "INVALID"]
    assert found["trailing"]["headrace-fallbacks"] == "planes=stale,planes=default,airports=stale"
