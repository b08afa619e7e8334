"""The features service through a real socket, on a real SQLite online store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from headrace.columns import Column
from headrace.hop.errors import Code, Fault
from services.features import wiring
from tests.services.features.calling import ask_columns, get, metrics_of, serving

ONE: dict[str, Sequence[object]] = {"tail": ["p1"], "airport": [1], "carrier": ["UA"]}


async def test_values_are_typed_and_in_the_order_of_the_rows(sqlite_repo: Path, now: datetime) -> None:
    async with serving(sqlite_repo) as harness:
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


async def test_absent_old_and_null_values_are_told_apart(sqlite_repo: Path, now: datetime) -> None:
    tails = ["p1", "nobody", None, "p5", "p7"]
    async with serving(sqlite_repo) as harness:
        found = await get(
            harness, {"tail": tails, "airport": [1, 1, None, 9, 1], "carrier": ["UA", "DL", "UA", "UA", None]}
        )
    assert found.sources("planes") == ["PRESENT", "NOT_FOUND", "NOT_FOUND", "OUTSIDE_MAX_AGE", "PRESENT"]
    assert found.values["seats"] == [101, None, None, None, 107]
    assert found.values["rating"] == [1 / 7, None, None, None, None], "p7 has no rating, but it has seats"
    assert found.ages_s("planes")[1] < 0
    assert found.ages_s("planes")[3] == 6 * 3600 + 1
    assert found.sources("airports") == ["PRESENT", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"]


async def test_the_time_to_live_ends_after_its_last_second(
    sqlite_repo: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {**ONE, "tail": ["p61"]}
    seen = now - timedelta(minutes=61)
    for late, source in ((0, "PRESENT"), (1, "OUTSIDE_MAX_AGE")):
        moment = seen + timedelta(hours=6, seconds=late)
        monkeypatch.setattr(wiring, "WALL", moment.timestamp)
        async with serving(sqlite_repo) as harness:
            assert (await get(harness, keys)).sources("planes") == [source]


@pytest.mark.parametrize(
    ("service", "entities", "code", "named"),
    [
        ("nothing", {"tail": ["p1"]}, Code.NOT_FOUND, {"feature_service": "nothing"}),
        ("lists", {"tail": ["p1"]}, Code.FAILED_PRECONDITION, {"feature_service": "lists"}),
        ("small", {"tail": ["p1"], "carrier": ["UA"]}, Code.INVALID_ARGUMENT, {"field": "airport"}),
        ("small", {**ONE, "tail": [5]}, Code.INVALID_ARGUMENT, {"field": "tail"}),
        ("small", {**ONE, "airport": ["1"]}, Code.INVALID_ARGUMENT, {"field": "airport"}),
    ],
)
async def test_what_does_not_fit_the_registry_is_named(
    sqlite_repo: Path,
    now: datetime,
    service: str,
    entities: dict[str, list[object]],
    code: Code,
    named: dict[str, str],
) -> None:
    async with serving(sqlite_repo) as harness:
        with pytest.raises(Fault) as refused:
            await get(harness, entities, service)
    assert refused.value.code == code
    assert named.items() <= dict(refused.value.metadata).items()


async def test_a_renamed_view_has_its_keys_in_other_columns(sqlite_repo: Path, now: datetime) -> None:
    async with serving(sqlite_repo) as harness:
        found = await get(harness, {"other_tail": ["p1", "nobody"], "tail": ["p2", "p2"]}, "aliased")
    assert found.values["seats"] == [101, None]
    assert found.sources("renamed") == ["PRESENT", "NOT_FOUND"]


async def test_no_rows_are_no_rows(sqlite_repo: Path, now: datetime) -> None:
    columns = [
        Column.of_text("tail", []),
        Column.of("airport", np.zeros(0, np.int64)),
        Column.of_text("carrier", []),
    ]
    async with serving(sqlite_repo) as harness:
        found = await ask_columns(harness, columns)
    features = {"rating", "seats", "model", "delay", "open"}
    assert set(found.values) >= features | {"@age_us/planes", "@source/airports"}
    assert all(values == [] for values in found.values.values())


async def test_sources_and_ages_are_in_the_metrics(sqlite_repo: Path, now: datetime) -> None:
    async with serving(sqlite_repo) as harness:
        await get(harness, {"tail": ["p1", "p5", "nobody"], "airport": [1, 1, 1], "carrier": ["UA"] * 3})
        text = metrics_of(harness)
    assert 'headrace_features_rows_total{source="outside_max_age",view="planes"} 1.0' in text
    assert 'headrace_features_rows_total{source="present",view="airports"} 3.0' in text
    assert 'headrace_features_age_seconds_count{view="planes"} 2.0' in text
    assert 'headrace_features_age_seconds_bucket{le="60.0",view="planes"} 1.0' in text


async def test_hosted_in_the_same_process_it_answers_the_same(sqlite_repo: Path, now: datetime) -> None:
    keys: dict[str, Sequence[object]] = {"tail": ["p1", "nobody"], "airport": [1, 2], "carrier": ["UA", "UA"]}
    replies = []
    transports: tuple[Literal["unix", "local"], ...] = ("unix", "local")
    for transport in transports:
        async with serving(sqlite_repo, transport=transport) as harness:
            replies.append(await get(harness, keys))
    assert replies[0].values == replies[1].values
    assert replies[0].revision == replies[1].revision
