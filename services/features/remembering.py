"""The last rows that the store gave, for when it can't be asked."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from services.features.planning import ViewPlan
from services.features.ports import Key, StoredRow


class Memory:
    """A bounded map from view and entity to its last-known row; what was not seen for longest goes first."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        # A dict keeps the order of insertion: taking a row out and putting it back makes it the newest.
        self._rows: dict[tuple[Hashable, Key], StoredRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def learn(self, view: ViewPlan, keys: Sequence[Key], rows: Sequence[StoredRow | None]) -> None:
        """Keeps the rows that are there, and forgets those that no longer are."""
        known, identity = self._rows, view.identity
        for key, row in zip(keys, rows, strict=True):
            place = (identity, key)
            known.pop(place, None)
            if row is not None:
                known[place] = row
        for _ in range(len(known) - self._entries):
            del known[next(iter(known))]

    def recall(self, view: ViewPlan, keys: Sequence[Key]) -> list[StoredRow | None]:
        """The last-known rows; None where nothing is remembered."""
        identity = view.identity
        return [self._rows.get((identity, key)) for key in keys]
