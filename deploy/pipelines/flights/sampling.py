"""Sample requests for the pipeline: real flights that are not in the training data."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from deploy.pipelines.flights.feature_repo import VIEWS
from deploy.pipelines.flights.feature_store import Tables
from deploy.pipelines.flights.sources import Sources
from headrace.state import atomic

FIELDS = ["carrier", "origin", "dest", "tailnum", "month", "day_of_week", "hour", "minute"]
# Recent enough that the features of plane and route are within their time to live.
LAST = pd.Timedelta(days=14)
COUNT = 2_500


def requests(sources: Sources, frames: Tables, count: int = COUNT) -> pd.DataFrame:
    """The request fields of `count` flights of the last days. The first flight has all its features."""
    flights = sources.flights[sources.flights["asked_at"] >= sources.ends_at - LAST]
    sample = flights.sample(min(count, len(flights)), random_state=1)
    known = sample["tailnum"].isin(frames["planes"].dropna(subset=VIEWS["planes"][2])["tailnum"])
    first = int(known.to_numpy().argmax())
    order = [first, *[i for i in range(len(sample)) if i != first]]
    return sample[FIELDS].iloc[order].reset_index(drop=True)


def write_requests(frame: pd.DataFrame, path: Path) -> None:
    """Writes one JSON object per line, with the pipeline's inputs as keys."""
    atomic.write(path, "".join(json.dumps(row) + "\n" for row in frame.to_dict("records")).encode())
