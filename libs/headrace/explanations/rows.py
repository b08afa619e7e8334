"""The rows of coalitions: columns that hold an explained row's value where the player takes part, else that of the base row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column
from headrace.columns.column import join


def values_of(
    players: Sequence[str], rows: Sequence[Mapping[str, Column]], base: Mapping[str, Column]
) -> list[Column]:
    """A column for each player: the base row's value, then that of each explained row. `rows`, `base`: columns of one row with
    the names of the players."""
    return [join([base[name], *(row[name].renamed(name) for row in rows)]) for name in players]


def coalition_columns(values: Sequence[Column], places: NDArray[np.intp]) -> list[Column]:
    """The columns with a row for each coalition. `values`: from `values_of`; `places`: (coalitions, players), which value each
    player has; 0 is the base row's."""
    return [column.take(places[:, i]) for i, column in enumerate(values)]
