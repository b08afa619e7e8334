"""The values of a column, as whoever observes rows has them, made into numbers with a mask or into texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# A category's text is cut to so many characters.
LONGEST_CATEGORY = 64
# An array (masked: nulls), or a list with None for nulls. NaN and infinities are values: not finite, and counted as such.
Values: TypeAlias = NDArray[Any] | Sequence[Any]


def numbers(values: Values, into: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Writes the values into a row of float64, 0 for nulls. Returns where nulls are; None: nowhere.

    What is no number (a text in a column of numbers) becomes NaN: it counts as not finite. A number of any size fits.
    """
    if isinstance(values, np.ma.MaskedArray):
        nulls = np.ma.getmaskarray(values)
        into[:] = np.where(nulls, 0, values.data)
        return nulls
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        into[:] = values
        return None
    items = values.tolist() if isinstance(values, np.ndarray) else values
    missing = np.fromiter((item is None for item in items), bool, len(items))
    into[:] = [_number(item) for item in items]
    return missing if missing.any() else None


def texts(values: Values) -> list[Any]:
    """The values as a list of texts, byte strings, numbers or None."""
    if isinstance(values, np.ndarray):
        return list(values.tolist())
    return list(values)


def text_of(item: Any) -> str:
    """A category as text, cut to 64 characters: UTF-8 of bytes (invalid bytes replaced), else as Python writes it."""
    text = item.decode(errors="replace") if isinstance(item, bytes) else str(item)
    return text[:LONGEST_CATEGORY]


def _number(item: Any) -> float:
    if item is None:
        return 0.0
    try:
        return float(item)
    except (TypeError, ValueError):
        return float("nan")
    except OverflowError:
        return float("inf")
