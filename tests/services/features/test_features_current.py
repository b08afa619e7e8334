"""Rows in memory are served without asking only while the store would say the same."""

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from feast import FeatureStore

from headrace.hop.testing import Harness
from tests.redis_server import RedisServer
from tests.services.features.calling import get, metrics_of, serving
from tests.services.features.conftest import planes

KEYS: dict[str, Sequence[object]] = {"tail": ["p1"], "airport": [1], "carrier": ["UA"]}


def looked_up(harness: Harness) -> dict[str, float]:
    """EntityKeys so far, by where their rows came from."""
    found = re.findall(r'headrace_features_keys_total\{from="(\w+)"\} (\S+)', metrics_of(harness))
    return {origin: float(count) for origin, count in found}


def write(repo: Path, seats: int, later: timedelta) -> None:
    """Pushes p1 with another number of seats, as any writer would."""
    frame = planes().iloc[[1]].assign(seats=seats)
    frame["event_timestamp"] += later
    FeatureStore(repo_path=str(repo)).write_to_online_store("planes", frame)


@pytest.mark.parametrize("kind", ["own_sqlite_repo", "redis_repo"])
async def test_a_write_is_seen_at_once_and_only_by_those_it_concerns(
    request: pytest.FixtureRequest, now: datetime, kind: str
) -> None:
    repo: Path = request.getfixturevalue(kind)
    async with serving(repo, cache_s=1000) as harness:
        for _ in range(3):
            assert (await get(harness, KEYS)).values["seats"] == [101]
        assert looked_up(harness) == {"store": 2, "memory": 4, "flight": 0}
        for change in range(5):
            await asyncio.to_thread(write, repo, 500 + change, timedelta(seconds=change + 1))
            # Redis tells a moment later, on another connection than the writer's.
            await asyncio.sleep(0.05 if kind == "redis_repo" else 0)
            assert (await get(harness, KEYS)).values["seats"] == [500 + change]
        if kind == "redis_repo":
            assert looked_up(harness) == {"store": 2 + 5, "memory": 4 + 5, "flight": 0}


async def test_what_is_current_is_still_held_to_its_time_to_live(
    own_sqlite_repo: Path, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    moment = [now]
    monkeypatch.setattr("services.features.wiring.WALL", lambda: moment[0].timestamp())
    async with serving(own_sqlite_repo, cache_s=1000) as harness:
        assert (await get(harness, KEYS)).sources("planes") == ["PRESENT"]
        moment[0] += timedelta(hours=6)
        assert (await get(harness, KEYS)).sources("planes") == ["OUTSIDE_MAX_AGE"]
        assert looked_up(harness)["memory"] == 2


async def test_a_store_that_does_not_tell_is_asked_each_time_unless_allowed(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    # An option that only redis-py knows, which leaves reading to it.
    configuration = redis_repo / "feature_store.yaml"
    configuration.write_text(
        configuration.read_text().replace(f":{redis.port}", f":{redis.port},single_connection_client=false")
    )
    for blind_s, asked in ((0, 4), (1000, 2)):
        async with serving(redis_repo, blind_cache_s=blind_s) as harness:
            for _ in range(2):
                assert (await get(harness, KEYS)).values["seats"] == [101]
            assert looked_up(harness)["store"] == asked


async def test_calls_at_once_for_one_entity_read_it_once(redis_repo: Path, now: datetime) -> None:
    async with serving(redis_repo, cache_s=0) as harness:
        await get(harness, KEYS)
        before = looked_up(harness)["store"]
        replies = await asyncio.gather(*[get(harness, KEYS) for _ in range(30)])
        assert [r.values["seats"] for r in replies] == [[101]] * 30
        after = looked_up(harness)
    assert after["store"] - before + after["flight"] == 60
    assert after["flight"] > 0
