"""Which replica of the executor each row goes to, by a key: rows with the same key share what that replica has in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import mmh3
import numpy as np

from headrace.columns import Batch, Column
from headrace.hop.client.dial import Client
from headrace.hop.resilience.partition import KeyPartition
from headrace.releases import Partition
from services.router.routes.assignment import keys_of
from services.router.stages.by_replica import ANYWHERE, REPLICA

Replicas: TypeAlias = Callable[[], Mapping[str, int]]
"""Address → index of each replica of the executor that answered last; of all, if none did."""


def healthy_replicas(client: Client, clock: Callable[[], float]) -> dict[str, int]:
    """The `Replicas` of a client. `clock`: monotonic seconds."""
    return {r.address: r.index for r in client.replicas.healthy(clock())}


class RowPartition:
    """The partition of a release. `clock`: monotonic seconds."""

    def __init__(self, partition: Partition, replicas: Replicas, clock: Callable[[], float]) -> None:
        self._by = partition.by
        self._replicas = replicas
        self._clock = clock
        self._partition = KeyPartition(partition.load_factor)

    def mark(self, batch: Batch) -> Batch:
        """The batch with the column `@replica` (int32): the index of each row's replica; −1 for a row without a key.

        Without two healthy replicas there is nothing to choose, and no column.
        """
        replicas = self._replicas()
        keys = keys_of(batch, self._by) if len(replicas) > 1 else None
        if not keys:
            return batch
        hash64 = mmh3.hash64
        hashes = [hash64(key, signed=False)[0] for key in keys if key is not None]
        self._partition.update(replicas)
        owners = [replicas[owner] for owner in self._partition.assign(hashes, self._clock())]
        places = np.array(owners, np.int32)
        if len(owners) < len(keys):
            given = places
            places = np.full(len(keys), ANYWHERE, np.int32)
            places[[key is not None for key in keys]] = given
        return batch.with_columns([Column.of(REPLICA, places)])
