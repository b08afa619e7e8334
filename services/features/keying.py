"""From the entity columns of a batch to the distinct keys that a view is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType, Ragged
from services.features.errors import missing_key, wrong_key
from services.features.planning import EntityKey, ViewPlan
from services.features.ports import Key


@dataclass(frozen=True, slots=True)
class Keys:
    """The distinct keys of a batch for one view. `place`: intp (rows,), each row's key, len(`keys`) where it has none."""

    keys: list[Key]
    place: NDArray[np.intp]


def read_entities(
    columns: Mapping[str, Column], keys: Sequence[EntityKey]
) -> dict[str, list[bytes | int | None]]:
    """Each join key's values, one per row, None where there is no value.

    Raises Fault INVALID_ARGUMENT for a column that is missing or of another type.
    """
    return {key.name: _values(columns.get(key.name), key) for key in keys}


def _values(column: Column | None, key: EntityKey) -> list[bytes | int | None]:
    if column is None:
        raise missing_key(key.name)
    fits = column.dtype is DType.BYTES if key.dtype is DType.BYTES else column.dtype.numpy.kind in "iu"
    if column.row_shape or not fits:
        found = f"{column.dtype.name.lower()}{list(column.row_shape) or ''}"
        raise wrong_key(key.name, found, "text" if key.dtype is DType.BYTES else "an integer")
    items: list[bytes | int | None]
    items = list(column.values.to_list() if isinstance(column.values, Ragged) else column.values.tolist())
    valid = _in_range(column, key)
    if valid is None:
        return items
    return [i if ok else None for i, ok in zip(items, valid.tolist(), strict=True)]


def _in_range(column: Column, key: EntityKey) -> NDArray[np.bool_] | None:
    """Which rows have a value that the key's type can hold (None: all). A number beyond it is no entity's."""
    if isinstance(column.values, Ragged) or np.can_cast(column.dtype.numpy, key.dtype.numpy):
        return column.valid
    bits = key.dtype.numpy.itemsize * 8 - 1
    items = column.values.tolist()
    fits = np.array([-(1 << bits) <= i < 1 << bits for i in items], bool)
    return fits & column.is_valid()


def distinct(view: ViewPlan, entities: Mapping[str, list[bytes | int | None]], rows: int) -> Keys:
    """The keys of `rows` rows, each once; a row that lacks one of them has no key."""
    index: dict[tuple[bytes | int | None, ...], int] = {}
    found = zip(*(entities[key.name] for key in view.keys), strict=True)
    place = np.fromiter((index.setdefault(key, len(index)) for key in found), np.intp, rows)
    if not any(None in key for key in index):
        return Keys(list(index), place)  # type: ignore[arg-type]  # no None in it
    return _without_nulls(list(index), place)


def _without_nulls(keys: list[tuple[bytes | int | None, ...]], place: NDArray[np.intp]) -> Keys:
    whole = [key for key in keys if None not in key]
    renumbered = np.full(len(keys), len(whole), np.intp)
    renumbered[[i for i, key in enumerate(keys) if None not in key]] = np.arange(len(whole))
    return Keys(whole, renumbered[place])  # type: ignore[arg-type]  # as above
