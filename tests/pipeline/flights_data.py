"""The flights data and its feature tables, loaded once for the tests that need them."""

from dataclasses import dataclass
from functools import cache

import pandas as pd

from deploy.pipelines.flights import feature_store, sources


@dataclass(frozen=True)
class Flights:
    """Raw data and feature tables, in the original times."""

    sources: sources.Sources
    tables: dict[str, pd.DataFrame]


@cache
def flights() -> Flights:
    loaded = sources.load()
    return Flights(loaded, feature_store.tables(loaded))
