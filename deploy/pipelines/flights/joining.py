"""Feast's point-in-time join, in parts that fit into the memory of its file store.

That store pairs every requested row with every row of its entity before it compares the times (50,000 flights × 8,700 hours
of weather). It identifies requested rows by keys and time alone, and loses rows whose entity has rows, but none in time (all
seen in Feast 0.67). So each view is joined by itself, and each stretch of time only with the source rows that its time to live
allows; the results are matched by keys and time. The result is the same.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from feast import FeatureStore

from deploy.pipelines.flights.feature_repo import FOREVER, TIME, VIEWS
from deploy.pipelines.flights.feature_store import Tables, create, write_tables

STRETCH = pd.Timedelta(days=10)
Progress = Callable[[int, int], None]


def historical(
    frames: Tables,
    asked: pd.DataFrame,
    stretch: pd.Timedelta = STRETCH,
    progress: Progress = lambda _d, _t: None,
) -> pd.DataFrame:
    """The rows of `asked` (join keys and event_timestamp, UTC) with the features of all views as known at each row's time.

    Rows keep their order and index. NaN: no value was known in time.
    """
    folder = Path(tempfile.mkdtemp(prefix="headrace-join-"))
    try:
        parts = []
        total = -(-(asked[TIME].max() - asked[TIME].min()) // stretch) + 1
        for done, part in enumerate(_stretches(asked, stretch)):
            progress(done, max(total, done + 1))
            write_tables({v: _within_reach(frames[v], v, part[TIME]) for v in VIEWS}, folder / "data")
            store = (
                create(folder / "feast", folder / "data")
                if done == 0
                else FeatureStore(str(folder / "feast"))
            )
            for view in VIEWS:
                part = _joined(store, part, view)
            parts.append(part)
        return pd.concat(parts).loc[asked.index]
    finally:
        shutil.rmtree(folder)


def _stretches(asked: pd.DataFrame, stretch: pd.Timedelta) -> Iterator[pd.DataFrame]:
    numbers = (asked[TIME] - asked[TIME].min()) // stretch
    for _, part in asked.groupby(numbers, sort=True):
        yield part


def _within_reach(frame: pd.DataFrame, view: str, times: pd.Series[pd.Timestamp]) -> pd.DataFrame:
    ttl = VIEWS[view][1]
    within = frame[TIME] <= times.max()
    if ttl != FOREVER:
        within &= frame[TIME] >= times.min() - ttl
    return frame[within]


def _joined(store: FeatureStore, part: pd.DataFrame, view: str) -> pd.DataFrame:
    keys, _, features = VIEWS[view]
    on = [*keys, TIME]
    wanted = part[on].drop_duplicates()
    found = store.get_historical_features(wanted, features=[f"{view}:{f}" for f in features]).to_df()
    found = found[[*on, *features]].drop_duplicates(on)
    merged = part.merge(found, on=on, how="left")
    merged.index = part.index
    return merged
