"""The features service through a real socket, on a real SQLite online store; feature services that are registered while it
runs; a caller's own limit on ages; rows in memory are served without asking only while the store would say the same."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from feast import FeatureService, FeatureStore

from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import Column
from headrace.hop.config import ConfigError
from headrace.hop.errors import Code, Fault
from headrace.hop.testing import Harness
from tests.redis_server import RedisServer
from tests.services.features.calling import ask_columns, entity_column, get, metrics_of, serving
from tests.services.features.conftest import planes
from tests.services.waiting import until

# Of 60, 240 and 660 seconds.
COLUMNS = [
    entity_column("tail", ["p1", "p4", "p11", "p5"]),
    entity_column("airport", [1] * 4),
    entity_column("carrier", ["UA"] * 4),
]
RULES = [pb.ViewRule(view="planes", max_age_us=100_000_000, stale_us=500_000_000)]
KEYS: dict[str, Sequence[object]] = {"tail": ["p1"], "airport": [1], "carrier": ["UA"]}


@pytest.fixture
async def harness(sqlite_repo: Path, now: datetime) -> AsyncIterator[Harness]:
    """The service before a store in a file."""
    async with serving(sqlite_repo) as found:
        yield found


async def test_values_are_typed_and_in_the_order_of_the_rows(harness: Harness) -> None:
    found = await get(
        harness, {"tail": ["p3", "p1", "p3"], "airport": [2, 3, 2], "carrier": ["UA", "DL", "UA"]}
    )
    assert found.values["seats"] == [103, 101, 103]
    assert found.values["rating"] == [3 / 7, 1 / 7, 3 / 7]
    assert found.values["model"] == ["model 3", "model 1", "model 3"]
    assert found.values["delay"] == [-2.5, 40.0, -2.5]
    assert found.values["open"] == [False, True, False]
    assert found.sources("planes") == ["PRESENT"] * 3
    assert found.ages_s("planes") == [180.0, 60.0, 180.0]
    assert found.ages_s("airports") == [timedelta(days=400).total_seconds()] * 3
    assert [t.stage for t in found.batch.timings] == ["features", "features/store"]
    assert found.batch.timings[1].row_count == 4, "an entity is read once, however many rows have it"


async def test_absent_old_and_null_values_are_told_apart(harness: Harness) -> None:
    tails = ["p1", "nobody", None, "p5", "p7"]
    found = await get(
        harness, {"tail": tails, "airport": [1, 1, None, 9, 1], "carrier": ["UA", "DL", "UA", "UA", None]}
    )
    assert found.sources("planes") == ["PRESENT", "NOT_FOUND", "NOT_FOUND", "OUTSIDE_MAX_AGE", "PRESENT"]
    assert found.values["seats"] == [101, None, None, None, 107]
    assert found.values["rating"] == [1 / 7, None, None, None, None], "p7 has no rating, but it has seats"
    assert found.ages_s("planes")[1] < 0
    assert found.ages_s("planes")[3] == 6 * 3600 + 1
    assert found.sources("airports") == ["PRESENT", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"]


@pytest.mark.parametrize(
    ("service", "entities", "code", "named"),
    [
        ("nothing", {"tail": ["p1"]}, Code.NOT_FOUND, {"feature_service": "nothing"}),
        ("lists", {"tail": ["p1"]}, Code.FAILED_PRECONDITION, {"feature_service": "lists"}),
        ("small", {"tail": ["p1"], "carrier": ["UA"]}, Code.INVALID_ARGUMENT, {"field": "airport"}),
        ("small", {**KEYS, "tail": [5]}, Code.INVALID_ARGUMENT, {"field": "tail"}),
        ("small", {**KEYS, "airport": ["1"]}, Code.INVALID_ARGUMENT, {"field": "airport"}),
    ],
)
async def test_what_does_not_fit_the_registry_is_named(
    harness: Harness, service: str, entities: dict[str, list[object]], code: Code, named: dict[str, str]
) -> None:
    with pytest.raises(Fault) as refused:
        await get(harness, entities, service)
    assert refused.value.code == code
    assert named.items() <= dict(refused.value.metadata).items()


async def test_a_renamed_view_has_its_keys_in_other_columns(harness: Harness) -> None:
    found = await get(harness, {"other_tail": ["p1", "nobody"], "tail": ["p2", "p2"]}, "aliased")
    assert found.values["seats"] == [101, None]
    assert found.sources("renamed") == ["PRESENT", "NOT_FOUND"]


async def test_no_rows_are_no_rows(harness: Harness) -> None:
    columns = [
        Column.of_text("tail", []),
        Column.of("airport", np.zeros(0, np.int64)),
        Column.of_text("carrier", []),
    ]
    found = await ask_columns(harness, columns)
    features = {"rating", "seats", "model", "delay", "open"}
    assert set(found.values) >= features | {"@age_us/planes", "@source/airports"}
    assert all(values == [] for values in found.values.values())


async def test_a_new_feature_service_is_found(own_sqlite_repo: Path, now: datetime) -> None:
    async with serving(own_sqlite_repo, refresh_s=0.05) as harness:
        with pytest.raises(Fault) as unknown:
            await get(harness, {"tail": ["p1"]}, "later")
        assert unknown.value.code == Code.NOT_FOUND
        store = FeatureStore(repo_path=str(own_sqlite_repo))
        seats = store.get_feature_view("planes")[["seats"]]
        await asyncio.to_thread(store.apply, [FeatureService(name="later", features=[seats])])

        async def known() -> bool:
            with suppress(Fault):
                await get(harness, {"tail": ["p1"]}, "later")
                return True
            return False

        await until(known)
        found = await get(harness, {"tail": ["p1"]}, "later")
        assert list(found.values) == ["seats", "@age_us/planes", "@source/planes"]
        (own_sqlite_repo / "registry.db").write_bytes(b"\x00 not a registry")
        await asyncio.sleep(0.2)
        assert (await get(harness, {"tail": ["p1"]}, "later")).values["seats"] == [101]


async def test_a_folder_without_a_repository_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prepared Feast repository"):
        async with serving(tmp_path / "nothing"):
            pass


async def test_values_are_stale_for_a_time_and_then_none(harness: Harness) -> None:
    found = await ask_columns(harness, COLUMNS, rules=RULES)
    assert found.sources("planes") == ["PRESENT", "STALE", "OUTSIDE_MAX_AGE", "OUTSIDE_MAX_AGE"]
    assert found.values["seats"] == [101, 104, None, None]
    assert found.ages_s("planes")[:3] == [60.0, 240.0, 660.0]
    assert found.sources("airports") == ["PRESENT"] * 4


async def test_an_outage_makes_no_value_younger(redis: RedisServer, redis_repo: Path, now: datetime) -> None:
    async with serving(redis_repo) as harness:
        await ask_columns(harness, COLUMNS)
        redis.kill()
        found = await ask_columns(harness, COLUMNS, rules=RULES)
    assert found.sources("planes") == ["STALE", "STALE", "DEFAULT", "DEFAULT"]
    assert found.values["seats"] == [101, 104, None, None]


@pytest.mark.parametrize("rules", [[pb.ViewRule(view="nothing")], [*RULES, *RULES]])
async def test_a_rule_for_nothing_or_a_second_one_is_refused(
    harness: Harness, rules: list[pb.ViewRule]
) -> None:
    with pytest.raises(Fault) as refused:
        await ask_columns(harness, COLUMNS, rules=rules)
    assert refused.value.code == Code.INVALID_ARGUMENT


async def test_times_in_the_future_are_of_no_age_and_told(
    sqlite_repo: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = now - timedelta(minutes=3)
    monkeypatch.setattr("services.features.wiring.WALL", behind.timestamp)
    async with serving(sqlite_repo) as harness:
        found = await ask_columns(harness, COLUMNS)
        text = metrics_of(harness)
    assert found.sources("planes") == ["PRESENT"] * 4
    assert found.ages_s("planes")[:2] == [0.0, 60.0]
    assert 'headrace_features_ahead_seconds{view="planes"} 120.0' in text


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


async def test_calls_at_once_for_one_entity_read_it_once(redis_repo: Path, now: datetime) -> None:
    async with serving(redis_repo, cache_s=0) as harness:
        await get(harness, KEYS)
        before = looked_up(harness)["store"]
        replies = await asyncio.gather(*[get(harness, KEYS) for _ in range(30)])
        assert [r.values["seats"] for r in replies] == [[101]] * 30
        after = looked_up(harness)
    assert after["store"] - before + after["flight"] == 60
    assert after["flight"] > 0
