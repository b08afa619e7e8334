"""The values of the sticky column: which were met before, and which have failed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import islice

from headrace.columns import Batch
from headrace.ticks import AssignedFigures
from services.router.routes.assignment import values_of

# Keys of one salt that are told apart; a set of so many takes about 20 MB.
MAX_KEYS = 200_000
# Of all pipelines; the one that was not used for longest goes first.
MAX_SETS = 8


def sticky_values(batch: Batch, by: str) -> list[Hashable | None]:
    """The value of each row; None: it has none."""
    found = values_of(batch, by)
    return [None] * len(batch) if found is None else found


class KeySet:
    """The keys of one salt, all arms together. A key that comes when the set is full is not counted."""

    __slots__ = ("_failed", "_met")

    def __init__(self) -> None:
        self._met: set[Hashable] = set()
        self._failed: set[Hashable] = set()

    def count(self, keys: Sequence[Hashable | None], bad: Iterable[int]) -> AssignedFigures:
        """What the rows of an arm add. `bad`: positions of those that failed by a fault of ours."""
        met, failed = self._met, self._failed
        rows = keys if None not in keys else [key for key in keys if key is not None]
        new = set(rows) - met
        saturated = False
        if len(met) + len(new) > MAX_KEYS:
            new, saturated = set(islice(new, MAX_KEYS - len(met))), True
        met |= new
        if saturated:
            rows = [key for key in rows if key in met]
        fresh = len(rows) - sum(map(failed.__contains__, rows)) if failed else len(rows)
        fresh_bad = {keys[row] for row in bad} & met - failed
        failed |= fresh_bad
        return AssignedFigures(
            new_keys=len(new), fresh_rows=fresh, fresh_bad=len(fresh_bad), saturated=saturated
        )


class KeySets:
    """The keys of each pipeline and salt."""

    def __init__(self) -> None:
        self._sets: dict[tuple[str, str], KeySet] = {}

    def of(self, pipeline: str, salt: str) -> KeySet:
        found = self._sets.pop((pipeline, salt), None) or KeySet()
        self._sets[pipeline, salt] = found  # as the newest
        if len(self._sets) > MAX_SETS:
            del self._sets[next(iter(self._sets))]
        return found
