"""The rows of coalitions: columns that hold the explained row's value where the player takes part, else that of the base row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column
from headrace.columns.column import join


def pairs_of(players: Sequence[str], row: Mapping[str, Column], base: Mapping[str, Column]) -> list[Column]:
    """A column of two rows for each player: the base row's value, then the explained row's. `row`, `base`: columns of one row
    with the names of the players."""
    return [join([base[name], row[name].renamed(name)]) for name in players]


def coalition_columns(pairs: Sequence[Column], masks: NDArray[np.bool_]) -> list[Column]:
    """The columns with a row for each mask. `pairs`: from `pairs_of`."""
    places = masks.astype(np.intp)
    return [pair.take(places[:, i]) for i, pair in enumerate(pairs)]
