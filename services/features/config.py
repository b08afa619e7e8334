"""Settings of the features service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from headrace.hop import config


class FeaturesConfig(config.ServiceSettings):
    """Where the feature store is, and how long it may keep us waiting."""

    # Folder of feature_store.yaml.
    repo: Path
    # One round trip to a store over the network (Redis): connecting, sending, answering.
    store_timeout_s: PositiveFloat = 0.05
    # All reads of one batch; then last-known values are served.
    read_timeout_s: PositiveFloat = 0.5
    # How often the registry is read again.
    refresh_s: PositiveFloat = 10.0
    # Batches read at once.
    threads: PositiveInt = 2
    # Last-known rows (of one view and entity each) kept for when the store fails; 0: none.
    stale_entries: int = Field(default=200_000, ge=0)
    breaker: config.Breaker = config.Breaker(
        window_s=2.0, min_calls=3, slow_s=0.3, open_s=0.5, max_open_s=2.0, probes=1
    )
