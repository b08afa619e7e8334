"""The newest rows of an arm, out of a real store: which count, and what they hold."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.columns import Batch, Column, DType
from headrace.drift import Choices, baseline_of
from headrace.events import CACHED, CODE, EventGroup, Mask
from services.monitoring.drift.newest_rows import newest_rows
from services.monitoring.drift.ports import Followed, Rows, Series, Traffic
from services.monitoring.events.values import Erasure
from tests.services.monitoring.monitoring_events import SALT, World, group
from tests.services.monitoring.monitoring_outcomes import NOW

SERIES = Series("flights", "f" * 64, "live")
BASELINE = baseline_of(
    {
        "x": np.arange(9.0),
        "vector": np.ones((9, 3)),
        "y": np.arange(9.0),
        "key": ["k"] * 9,
        "other": [1.0] * 9,
    },
    Choices(outputs=["y"]),
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def uncached(first: int, count: int, **options: Any) -> EventGroup:
    """Events of which none was answered from a cache."""
    return with_column(group(first, count, **options), Column(CACHED, DType.BOOL, np.zeros(count, bool)))


def about(of: EventGroup, **fields: Any) -> EventGroup:
    return EventGroup(replace(of.header, **fields), of.batch)


def with_column(of: EventGroup, column: Column) -> EventGroup:
    return EventGroup(
        of.header, Batch.of(of.batch.rows, [*({**of.batch.columns, column.name: column}).values()])
    )


def rows(world: World, most: int = 100, series: Series = SERIES, since: int = 2, later: float = 1.0) -> Rows:
    found = newest_rows(world.store, series, Followed(BASELINE, since), most, NOW + later)
    assert found is not None
    return found


def test_the_newest_come_with_nulls_elements_and_texts_from_files_and_batches(world: World) -> None:
    world.stored(uncached(1, 3))
    world.take(uncached(4, 3))
    found = rows(world, most=4)
    assert found.count == 4
    columns: dict[str, Any] = dict(found.columns)
    assert columns["x"].tolist() == [6, 5, 4, 3]
    assert len(found.tenants) == 4
    assert set(found.tenants) == {"acme"}
    assert columns["y"].tolist() == [None, 5.0, 4.0, None]
    assert columns["key"] == ["k6", "k5", "k4", "k3"]
    assert columns.keys() == {"x", "key", "y", "vector[0]", "vector[1]", "vector[2]"}


def test_failed_cached_replayed_rows_and_those_of_others_are_left_out(world: World) -> None:
    codes = Column(CODE, DType.UINT8, np.array([0, 13, 0, 0, 0], np.uint8))
    kept = Column(CACHED, DType.BOOL, np.array([False, False, True, False, False]))
    chosen = with_column(with_column(group(1, 5), codes), kept)
    others = [
        about(uncached(6, 1), replayed=True),
        about(uncached(7, 1), shadow_of="live"),
        about(uncached(8, 1), release=1),
        about(uncached(9, 1), arm="canary"),
        about(uncached(10, 1), revision="e" * 64),
        uncached(11, 1, pipeline="other"),
    ]
    world.take(chosen, *others)
    assert dict(rows(world).columns)["x"].tolist() == [5, 4, 1]
    shadow = Series("flights", "f" * 64, "live", Traffic.SHADOW)
    assert rows(world, series=shadow).count == 1
    assert rows(world, since=3).count == 0
    assert rows(world, series=Series("flights", "f" * 64, "nobody")).count == 0


def test_personal_data_is_left_out_and_what_no_longer_comes_is_said(world: World) -> None:
    world.take(uncached(1, 3, mask=Mask(SALT)))
    assert "key" not in rows(world).columns
    without = uncached(4, 3)
    columns = {name: column for name, column in without.batch.columns.items() if name != "vector"}
    header = replace(without.header, inputs=("x", "key"))
    world.take(EventGroup(header, Batch.of(without.batch.rows, list(columns.values()))))
    # So few rows that it looks further back, where it came.
    assert rows(world, later=30.0).count == 6


def test_nothing_is_read_until_events_came_or_went_or_a_day_is_over(world: World) -> None:
    world.take(uncached(1, 3))
    again = partial(newest_rows, world.store, SERIES, Followed(BASELINE, 2), 100, judged=rows(world).stored)
    world.stored(uncached(4, 3, pipeline="other"))
    assert again(NOW + 2) is None, "they are in a file now"
    assert again(NOW + 86_402) is not None
    world.erase(Erasure("acme", request_ids=("r2",)))
    assert dict(rows(world).columns)["x"].tolist() == [3, 1]
    assert again(NOW + 2) is not None


def test_older_rows_are_taken_until_there_are_enough(world: World) -> None:
    world.stored(uncached(1, 3, now=NOW - 80_000))
    world.stored(uncached(4, 3))
    assert rows(world, most=3).count == 3
    assert rows(world, most=4).count == 4
    assert rows(world, most=100, later=3000.0).count == 6
