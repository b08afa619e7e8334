"""The features that were known when each flight was asked for: the rows that Feast's point-in-time join gives, in seconds.

Feast's file store pairs every requested row with every row of its entity before it compares the times: minutes, and gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from deploy.pipelines.flights.feature_repo import FOREVER, TIME, VIEWS
from deploy.pipelines.flights.feature_store import Tables


def historical(
    frames: Tables, asked: pd.DataFrame, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> pd.DataFrame:
    """The rows of `asked` (join keys and event_timestamp, UTC) with the features of all views as known at each row's time.

    Rows keep their order and index. NaN: no value was known in time.
    """
    found = ordered = asked.sort_values(TIME, kind="stable")
    for done, (view, (keys, ttl, features)) in enumerate(VIEWS.items()):
        progress(done, len(VIEWS))
        table = frames[view][[*keys, TIME, *features]].sort_values(TIME, kind="stable")
        tolerance = None if ttl == FOREVER else pd.Timedelta(ttl)
        found = pd.merge_asof(
            found, table.astype({TIME: found[TIME].dtype}), on=TIME, by=keys, tolerance=tolerance
        )
    # merge_asof numbers the rows anew.
    found.index = ordered.index
    return found.loc[asked.index]
