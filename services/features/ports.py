"""What the features service needs of a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from services.features.planning import Plans, ViewPlan

Key: TypeAlias = tuple[bytes | int, ...]
"""Values of a view's join keys, in the plan's order; text as UTF-8."""

Value: TypeAlias = float | int | bool | bytes | None
StoredRow: TypeAlias = tuple[float, tuple[Value, ...]]
"""Event time (seconds since 1970, UTC) and the values of the plan's features, in order; None: no value."""


class StoreError(Exception):
    """The store could not be asked, or did not answer in time."""


class OnlineStore(Protocol):
    """Current values by entity. Called from threads, several at once."""

    def read(self, view: ViewPlan, keys: Sequence[Key]) -> Sequence[StoredRow | None]:
        """One row per key, None where the entity is not in the store. Blocks. Raises StoreError."""
        ...


class Registry(Protocol):
    """Which feature services there are."""

    def plans(self) -> Plans:
        """Reads the registry anew. Blocks. Raises StoreError."""
        ...
