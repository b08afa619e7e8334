"""The values of the sticky column: which were met before, and which have failed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import blake2b

from headrace.columns import Batch, Ragged
from headrace.ticks import KeyFigures

# Keys of one salt that are told apart; a set of so many takes about 20 MB.
MAX_KEYS = 200_000
# Of all pipelines; the one that was not used for longest goes first.
MAX_SETS = 8
TENANT = "@tenant"


def sticky_values(batch: Batch, by: str) -> list[Hashable | None]:
    """The value of each row; None: it has none."""
    if by == TENANT:
        return list(batch.rows.tenants)
    column = batch.columns.get(by)
    if column is None:
        return [None] * len(batch)
    values: list[Hashable | None]
    values = [*column.values.to_list()] if isinstance(column.values, Ragged) else column.values.tolist()
    if column.valid is None:
        return values
    return [value if there else None for value, there in zip(values, column.valid.tolist(), strict=True)]


def key_hash(value: Hashable) -> int:
    """64 bits that stand for a value, the same in every process."""
    text = value if isinstance(value, bytes) else str(value).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


class KeySet:
    """The keys of one salt, all arms together. A key that comes when the set is full is not counted."""

    __slots__ = ("_failed", "_met")

    def __init__(self) -> None:
        self._met: set[Hashable] = set()
        self._failed: set[Hashable] = set()

    def count(self, keys: Sequence[Hashable | None], bad: frozenset[int], so_far: KeyFigures) -> KeyFigures:
        """The figures with these rows added. `bad`: positions of those that failed by a fault of ours."""
        met, failed = self._met, self._failed
        new = first_failed = rows = 0
        saturated = so_far.saturated
        for row, key in enumerate(keys):
            if key is None or key in failed:
                continue
            if key not in met:
                if len(met) >= MAX_KEYS:
                    saturated = True
                    continue
                met.add(key)
                new += 1
            rows += 1
            if row in bad:
                failed.add(key)
                first_failed += 1
        return KeyFigures(so_far.keys + new, so_far.bad + first_failed, so_far.rows + rows, saturated)


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
