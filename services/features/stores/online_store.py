"""What the features service needs of a feature store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from services.features.plan.plan import ViewPlan

# A plain tuple, the fastest object to create: each row of a batch needs several.
StoredRow: TypeAlias = tuple[float, tuple[bytes, ...]]
"""What the store has of one entity in one view: event time, seconds since 1970 (UTC), and the values of the plan's
features, in order, as serialised `feast.types.Value`; empty: null."""

Rows: TypeAlias = Sequence[StoredRow | None]
"""One per key; None where the entity is not in the store."""


class KeyQuery(NamedTuple):
    """Stored keys (see plan/entity_keys.py) to read of one view."""

    view: ViewPlan
    keys: Sequence[bytes]


class StoreError(Exception):
    """The store could not be read, or its answer is unusable."""


class StoreTimeoutError(StoreError):
    """The store did not answer in time."""


class OnlineStore(Protocol):
    """Current rows by entity. Used on one event loop, which it never blocks."""

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        """The rows of each query, all read together. Raises StoreError, and StoreTimeoutError after `timeout_s`."""
        ...

    def epoch(self) -> int:
        """A number that changes when rows read earlier may be outdated. −1: the store can't detect changes.

        Within an epoch, the store reports single changes to `watch`.
        """
        ...

    def watch(self, changed: Callable[[bytes], None]) -> None:
        """`changed` is called with the entity key of each row that changes within an epoch."""
        ...

    async def close(self) -> None:
        """Closes its connections."""
        ...
