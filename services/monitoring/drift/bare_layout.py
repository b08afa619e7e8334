"""What is counted of columns that no baseline describes: nulls, what is not finite, extremes, distinct values, frequent texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.sketches import CategoryColumn, Layout, NumberColumn, Values

_MOST_COLUMNS = 64


def bare_layout(columns: Mapping[str, Values | None]) -> Layout:
    """A layout without bins and vocabularies, for columns as they are in a first batch; at most 64, with one value a row."""
    return Layout(
        tuple(
            CategoryColumn(name) if _is_text(values) else NumberColumn(name)
            for name, values in list(columns.items())[:_MOST_COLUMNS]
            if values is not None and getattr(values, "ndim", 1) == 1
        )
    )


def _is_text(values: Values) -> bool:
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return values.dtype.kind in "SU"
    return isinstance(next((v for v in values if v is not None), None), str | bytes)
