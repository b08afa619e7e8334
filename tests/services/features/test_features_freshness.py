"""A caller's own limit on ages: present, stale for a time, then without values; and clocks that disagree."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.features.v1 import features_pb2 as pb
from headrace.hop.errors import Code, Fault
from services.features.freshness.freshness import FoundRows, FreshnessRule, Source, assess
from services.features.plan.entity_keys import EntityKeys
from services.features.plan.plan import Feature, ViewPlan
from tests.redis_server import RedisServer
from tests.services.features.calling import ask_columns, entity_column, metrics_of, serving

# Of 60, 240 and 660 seconds.
COLUMNS = [
    entity_column("tail", ["p1", "p4", "p11", "p5"]),
    entity_column("airport", [1] * 4),
    entity_column("carrier", ["UA"] * 4),
]
RULES = [pb.ViewRule(view="planes", max_age_us=100_000_000, stale_us=500_000_000)]


async def test_values_are_stale_for_a_time_and_then_none(sqlite_repo: Path, now: datetime) -> None:
    async with serving(sqlite_repo) as harness:
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
    sqlite_repo: Path, now: datetime, rules: list[pb.ViewRule]
) -> None:
    async with serving(sqlite_repo) as harness:
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


AGES = st.lists(st.none() | st.floats(-100, 1000), max_size=8)
LIMITS = st.sampled_from([0.0, 1.0, 50.0, 500.0])


@given(AGES, LIMITS, LIMITS, LIMITS, st.booleans())
def test_rows_together_are_assessed_as_each_alone(
    ages: list[float | None], ttl: float, max_age: float, stale: float, asked: bool
) -> None:
    """Rows together are judged as each of them alone would be, and by the words of the contract."""
    view = ViewPlan("v", "v", (), (Feature("f", "double_val"),), ttl)
    now = 1e6
    rows = [None if age is None else (now - age, (b"x",)) for age in ages]
    rule = FreshnessRule(max_age, stale)
    [together] = assess([FoundRows(view, EntityKeys([b""] * len(rows), None), rows, asked, rule)], now)
    for i, (age, row) in enumerate(zip(ages, rows, strict=True)):
        [alone] = assess([FoundRows(view, EntityKeys([b""], None), [row], asked, rule)], now)
        source = together.sources[i]
        assert (source, together.ages_us[i], together.values()[i]) == (
            alone.sources[0], alone.ages_us[0], alone.values()[0],
        )  # fmt: skip
        if age is None:
            assert source == (Source.NOT_FOUND if asked else Source.DEFAULT)
            continue
        assert row is not None
        age = now - row[0]
        usable = (not ttl or age <= ttl) and (not max_age or age <= max_age + stale)
        if not usable:
            assert source == (Source.OUTSIDE_MAX_AGE if asked else Source.DEFAULT)
        else:
            good = asked and (not max_age or age <= max_age)
            assert source == (Source.PRESENT if good else Source.STALE)
        assert (together.values()[i] == (b"x",)) == usable
