"""Settings of the features service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from headrace.hop import config


class Stream(config.Settings):
    """A Redis Stream of feature events; see stream/consumer.py."""

    # redis://host:port/db, rediss:// for TLS.
    url: str
    name: str = "headrace:features"
    group: str = "features"
    # Name of this member of the group: another for each replica, the same after a restart.
    member: str = "features"
    # Events written at once.
    batch: PositiveInt = 500


class FeaturesConfig(config.ServiceSettings):
    """Where the feature store is, and how long it may keep us waiting."""

    # Folder of feature_store.yaml.
    repo: Path
    # All reads of one batch (connecting, sending, answering), without a retry; then last-known values are served.
    store_timeout_s: PositiveFloat = 0.05
    # Before it says that it is ready, the service reads each feature service until that takes half of `store_timeout_s`,
    # but for no longer than this: a store that is down or slow does not keep it from serving.
    warm_up_s: NonNegativeFloat = 2.0
    # How often the registry is read again.
    refresh_s: PositiveFloat = 10.0
    # Batches of many keys that are read from SQLite at once.
    threads: PositiveInt = 2
    # Rows kept in memory (of one view and entity each), for saving reads and for when the store fails; 0: none.
    memory_entries: NonNegativeInt = 200_000
    memory_bytes: NonNegativeInt = Field(default=64 * 1024 * 1024, description="by estimate")
    # How long a row in memory saves a read, where the store tells of changes: SQLite, and Redis from version 6 on.
    cache_s: NonNegativeFloat = 5.0
    # The same where it does not, so that rows may be as much out of date.
    blind_cache_s: NonNegativeFloat = 0.0
    # Events to write into the online store; absent: none are consumed.
    stream: Stream | None = None
    breaker: config.BreakerSettings = config.BreakerSettings(
        window_s=2.0, min_calls=3, slow_s=0.3, open_s=0.5, max_open_s=1.0, probes=1
    )
