"""The features that were known when each flight was asked for: the rows that Feast's point-in-time join gives, in seconds.

Feast's file store takes minutes for all flights (`deploy/pipelines/flights/joining.py`); a test compares the two.
"""

from __future__ import annotations

import pandas as pd

from deploy.pipelines.flights.feature_repo import FOREVER, TIME, VIEWS
from deploy.pipelines.flights.feature_store import Tables


def known_features(frames: Tables, asked: pd.DataFrame) -> pd.DataFrame:
    """The rows of `asked` (join keys and event_timestamp, UTC) with the features of all views; NaN: no value in time."""
    found = asked.sort_values(TIME, kind="stable")
    for view, (keys, ttl, features) in VIEWS.items():
        table = frames[view][[*keys, TIME, *features]].sort_values(TIME, kind="stable")
        tolerance = None if ttl == FOREVER else pd.Timedelta(ttl)
        found = pd.merge_asof(
            found, table.astype({TIME: found[TIME].dtype}), on=TIME, by=keys, tolerance=tolerance
        )
    # merge_asof numbers the rows anew; the sort was stable, so they are in the order of the sorted input.
    found.index = asked.sort_values(TIME, kind="stable").index
    return found.loc[asked.index]
