"""The results of several routes as one result, rows in the order of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError, concat
from headrace.columns.column import Mask
from services.router.routes.run import FALLBACKS, MAX_FALLBACKS, RouteResult, absent, bits

DECISION = "@decision"


def join(
    results: Sequence[RouteResult],
    rows: Sequence[NDArray[np.intp]],
    decisions: Sequence[NDArray[np.uint32]] | None = None,
) -> RouteResult:
    """One result of all rows; `rows[i]` are the positions of the rows of `results[i]`.

    `decisions[i]`: the column `@decision` (uint32) for these rows; None: it says which result a row is from. An annotation that
    a route does not have is −1 there if it is signed, else 0.
    """
    names = dict.fromkeys(n for r in results for n in r.batch.columns if n != FALLBACKS)
    like = {n: next(r.batch.columns[n] for r in results if n in r.batch.columns) for n in names}
    joined = concat([_aligned(r.batch, like) for r in results])
    order = np.argsort(np.concatenate(rows), kind="stable")
    batch = joined.take(order)
    if decisions is None:
        decisions = [np.full(len(r), i, np.uint32) for i, r in enumerate(rows)]
    decided = np.concatenate(decisions)[order]
    used: dict[str, Mask] = {}
    for result, at in zip(results, rows, strict=True):
        values = result.batch.columns[FALLBACKS].array.astype(np.uint64)
        for i, name in enumerate(result.fallbacks):
            mask = used.setdefault(name, np.zeros(len(batch), bool))
            mask[at] = (values >> np.uint64(i)) & np.uint64(1)
    batch = batch.with_columns([bits(used, len(batch)), decision_column(decided)])
    timings = [t for r in results for t in r.batch.timings]
    return RouteResult(
        replace(batch, timings=timings), list(used)[:MAX_FALLBACKS], [m for r in results for m in r.models]
    )


def decision_column(decided: NDArray[np.uint32]) -> Column:
    """The column `@decision`."""
    return Column(DECISION, DType.UINT32, decided)


def _aligned(batch: Batch, like: dict[str, Column]) -> Batch:
    """The batch with the columns of `like`, in that order; those that it does not have are filled."""
    columns: dict[str, Column] = {}
    for name, column in like.items():
        mine, fill = batch.columns.get(name), absent(column.dtype)
        columns[name] = mine or Column(name, column.dtype, np.full(len(batch), fill, column.dtype.numpy))
    errors: dict[int, RowError] = dict(batch.errors)
    return Batch(batch.rows, columns, errors)
