"""Which rows of two columns differ, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.columns.column import Mask

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two columns with the same rows. `differs`: bool (rows,); `deltas`: float64 (rows,), the greatest absolute difference of
    a row's elements, inf where only one has a number; None for types that are no floating-point numbers."""

    differs: Mask
    deltas: NDArray[np.float64] | None = None


def differences(old: Column, new: Column, tolerance: float = 0.0, relative: float = 0.0) -> Difference:
    """Compares row by row. If both tolerances are 0, numbers are equal if their bits are (a NaN of the same bits is); else if
    they differ by no more than `tolerance` + `relative` · |old|. Other types and shapes differ in every row. Two nulls are equal.
    """
    rows = len(old)
    if len(new) != rows:
        raise ValueError(f"columns of {rows} and {len(new)} rows can't be compared")
    if old.dtype is not new.dtype or old.row_shape != new.row_shape:
        deltas = np.full(rows, np.inf) if old.dtype.is_float else None
        return Difference(np.ones(rows, bool), deltas)
    if old.dtype is DType.BYTES:
        return Difference(_by_validity(_bytes_differ(old, new), None, old, new)[0])
    one, other = old.array.reshape(rows, -1), new.array.reshape(rows, -1)
    if not old.dtype.is_float:
        return Difference(_by_validity((one != other).any(axis=1), None, old, new)[0])
    bits = np.dtype(f"u{old.dtype.numpy.itemsize}")
    same_bits = np.ascontiguousarray(one).view(bits) == np.ascontiguousarray(other).view(bits)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    # inf − inf is no number although the two are the same.
    both_nan = np.isnan(one) & np.isnan(other)
    apart = np.where(same_bits | both_nan, 0.0, np.where(np.isnan(apart), np.inf, apart))
    deltas = apart.max(axis=1, initial=0.0)
    if tolerance == 0 and relative == 0:
        differs = (~same_bits).any(axis=1)
    else:
        size = np.abs(one.astype(np.float64))
        differs = (apart > tolerance + relative * np.where(np.isfinite(size), size, 0.0)).any(axis=1)
    found, by = _by_validity(differs, deltas, old, new)
    return Difference(found, by)


def _by_validity(
    differs: Mask, deltas: NDArray[np.float64] | None, old: Column, new: Column
) -> tuple[Mask, NDArray[np.float64] | None]:
    """Rows without values are equal if both have none, and differ if one has."""
    if old.valid is None and new.valid is None:
        return differs, deltas
    one, other = old.is_valid(), new.is_valid()
    both, lacking = one & other, one != other
    if deltas is not None:
        deltas = np.where(both, deltas, np.where(lacking, np.inf, 0.0))
    return (differs & both) | lacking, deltas


def _bytes_differ(old: Column, new: Column) -> Mask:
    one, other = old.ragged.to_list(), new.ragged.to_list()
    unequal = np.fromiter((a != b for a, b in zip(one, other, strict=True)), bool, len(one))
    return np.asarray(unequal.reshape(len(old), -1).any(axis=1), bool)


def shown(column: Column, row: int) -> str:
    """One row's value as text for a person: at most 80 characters."""
    if column.valid is not None and not column.valid[row]:
        return "null"
    if column.dtype is DType.BYTES:
        items = column.slice(row, row + 1).ragged.to_list()
        texts = [i[:_SHOWN].decode(errors="replace") for i in items]
        text = texts[0] if len(texts) == 1 else str(texts)
    else:
        value = column.array[row]
        # The shortest text that reads back as the same number.
        text = str(value) if not column.row_shape else f"[{', '.join(map(str, value.ravel()[:8]))}]"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
