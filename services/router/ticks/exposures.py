"""Which rows got which arm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Rows
from headrace.pipeline import OutputField
from headrace.ticks import ArmName, Exposure

# What one takes in memory, about.
EXPOSURE_BYTES = 500


def places_in_requests(rows: Rows) -> list[int]:
    """Position of each row in its request: the rows of a request are next to each other."""
    places: list[int] = []
    place, last = 0, None
    # Tenants choose their ids without knowing of each other.
    for request in zip(rows.request_ids, rows.tenants, strict=True):
        place = place + 1 if request == last else 0
        places.append(place)
        last = request
    return places


def compared(output: OutputField) -> bool:
    """Whether an outcome of the output's name can say that it was wrong: a truth value or a whole number a row."""
    return not output.row_shape and output.dtype.numpy.kind in "biu"


def exposures(
    arm: ArmName,
    answer: Batch,
    places: Iterable[int],
    keys: Sequence[int | None] | None,
    outputs: Sequence[OutputField],
) -> list[Exposure]:
    """Of the rows of an answer; `places`: their positions in their requests."""
    rows = answer.rows
    every = keys if keys is not None else [None] * len(answer)
    columns = {output.name: _values(answer, output) for output in outputs if compared(output)}
    found = []
    for i, (tenant, request, place, key) in enumerate(
        zip(rows.tenants, rows.request_ids, places, every, strict=True)
    ):
        labels = (
            {n: v[i] for n, v in columns.items() if not math.isnan(v[i])} if i not in answer.errors else {}
        )
        found.append(Exposure(arm, tenant, request, place, key, labels))
    return found


def _values(answer: Batch, output: OutputField) -> Sequence[float]:
    column = answer.columns[output.name]
    values: list[float] = column.array.astype(np.float64).tolist()
    if column.valid is not None:
        return [v if there else math.nan for v, there in zip(values, column.valid.tolist(), strict=True)]
    return values


def taken(places: Sequence[int], rows: NDArray[np.intp] | None) -> Sequence[int]:
    """The positions of some of the rows; None: of all."""
    return places if rows is None else [places[i] for i in rows.tolist()]
