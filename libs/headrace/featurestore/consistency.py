"""Checks on a sample whether the online store has the same values as the offline store, and reports the ages of online rows."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from feast import FeatureStore, FeatureView
from feast.data_source import DataSource

_TOLERANCE = 1e-6
# A name that no column of a table has.
_TIME = "@time"
_Row = dict[str, Any]


class CheckError(Exception):
    """A store can't be read; the text says which and why."""


@dataclass(frozen=True, slots=True)
class ViewReport:
    """The result for one view's sample, in numbers of entities. `absent`: not online; `behind`: the online row is older.

    `cells`, `wrong`: numbers of values that were compared, and that differ; only entities with equal event times are compared.
    Ages in seconds; NaN if there are none. `expired`: online rows older than the time to live.
    """

    view: str
    sampled: int
    absent: int
    behind: int
    cells: int
    wrong: int
    age_p50_s: float
    age_max_s: float
    expired: int

    @property
    def good(self) -> bool:
        return not (self.absent or self.behind or self.wrong)


def check(store: FeatureStore, sample: int, now: datetime, seed: int = 1) -> Iterator[ViewReport]:
    """A report for each view that is online, from at most `sample` entities per view. Blocks. Raises CheckError."""
    for view in store.list_feature_views():
        if view.online and view.batch_source is not None and view.join_keys:
            dice = random.Random(seed)  # noqa: S311 - the sample must be reproducible
            try:
                latest = _latest(store, view, view.batch_source, now)
                report = _check_rows(store, view, dice.sample(latest, min(sample, len(latest))), now)
            except Exception as error:  # each kind of store has its own exceptions
                raise CheckError(f"can't compare {view.name}: {error}") from error
            yield report


def _check_rows(store: FeatureStore, view: FeatureView, rows: list[_Row], now: datetime) -> ViewReport:
    if not rows:
        return ViewReport(view.name, 0, 0, 0, 0, 0, math.nan, math.nan, 0)
    names = [f.name for f in view.features]
    entities = {key: [row[key] for row in rows] for key in view.join_keys}
    references = [f"{view.name}:{name}" for name in names]
    found = store.get_online_features(references, entities).to_dict(include_event_timestamps=True)
    absent = behind = cells = wrong = expired = 0
    ages: list[float] = []
    ttl = view.ttl.total_seconds() if view.ttl else 0.0
    for i, row in enumerate(rows):
        seconds, expected = (
            found[f"{names[0]}__ts"][i],
            int(row[_TIME].timestamp()),
        )
        if not seconds:
            absent += 1
            continue
        ages.append(now.timestamp() - seconds)
        expired += bool(ttl and ages[-1] > ttl)
        if seconds < expected:
            behind += 1
        elif seconds == expected:
            # Rows with a newer online time are not compared: they were pushed, and the offline store does not have them yet.
            cells += len(names)
            wrong += sum(not _same(row[name], found[name][i]) for name in names)
    ages.sort()
    middle, oldest = (ages[len(ages) // 2], ages[-1]) if ages else (math.nan, math.nan)
    return ViewReport(view.name, len(rows), absent, behind, cells, wrong, middle, oldest, expired)


def _latest(store: FeatureStore, view: FeatureView, source: DataSource, now: datetime) -> list[_Row]:
    """The newest offline row of each entity, selected as by materialisation. Its event time is under the key `_TIME`."""
    columns = {name: column for column, name in (source.field_mapping or {}).items()}
    job = store.provider.offline_store.pull_latest_from_table_or_query(
        config=store.config,
        data_source=source,
        join_key_columns=[columns.get(key, key) for key in view.join_keys],
        feature_name_columns=[columns.get(f.name, f.name) for f in view.features],
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column,
        start_date=datetime.fromtimestamp(0, UTC),
        end_date=now,
    )
    frame = job.to_df().rename(columns=source.field_mapping or {})
    rows: list[Any] = frame.to_dict("records")
    return [{**row, _TIME: _utc(row[source.timestamp_field])} for row in rows]


def _utc(time: Any) -> Any:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _same(offline: Any, online: Any) -> bool:
    if _missing(offline) or _missing(online):
        return _missing(offline) and _missing(online)
    if isinstance(online, float):
        return math.isclose(float(offline), online, rel_tol=_TOLERANCE)
    if isinstance(online, list):
        return len(offline) == len(online) and all(map(_same, offline, online))
    return bool(offline == online)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
