"""Settings of the features service."""

from __future__ import annotations

from pathlib import Path

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from headrace.hop import config


class Stream(config.Settings):
    """A Redis Stream of feature events; see stream/consumer.py."""

    # redis://host:port/db, rediss:// for TLS.
    url: str
    name: str = "headrace:features"
    group: str = "features"
    # Name of this member of the group: different for each replica, unchanged after a restart.
    member: str = "features"
    # The most events written together.
    batch: PositiveInt = 500


class FeaturesConfig(config.ServiceSettings):
    """Where the feature store is, how long reads may take, and how rows are cached."""

    # Folder of feature_store.yaml.
    repo: Path
    # All reads of one batch (connecting, sending, answering), without a retry; then last-known values are served.
    store_timeout_s: PositiveFloat = 0.05
    # Before it reports ready, the service reads each feature service until a read takes at most half of `store_timeout_s`,
    # but for no longer than this in total: it also starts with a store that is down or slow.
    warm_up_s: NonNegativeFloat = 2.0
    # How often the registry is read again.
    refresh_s: PositiveFloat = 10.0
    # Memory (by estimate) for rows that are kept, to save reads and to serve when the store fails; 0: none.
    memory_bytes: NonNegativeInt = 64 * 1024 * 1024
    # How long a row in memory is used without a read, if the store reports changes: SQLite, and a Redis from version 6 on that is
    # one server. Of others each row is read.
    cache_s: NonNegativeFloat = 5.0
    # The stream of events to write into the online store; absent: no events are consumed.
    stream: Stream | None = None
