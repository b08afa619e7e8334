"""The answers of several routes as one answer, rows in their first order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError, concat
from headrace.columns.column import Mask
from services.router.routes.run import FALLBACKS, MAX_FALLBACKS, Outcome, bits
from services.router.stages.features import AGE

DECISION = "@decision"


def join(outcomes: Sequence[Outcome], rows: Sequence[NDArray[np.intp]]) -> Outcome:
    """One outcome of all rows; `rows[i]` are the positions of the rows of `outcomes[i]`.

    The column `@decision` (uint32) says which outcome a row is from. An annotation that a route does not have
    is −1 (an age) or 0 there.
    """
    names = dict.fromkeys(n for o in outcomes for n in o.batch.columns if n != FALLBACKS)
    like = {n: next(o.batch.columns[n] for o in outcomes if n in o.batch.columns) for n in names}
    joined = concat([_aligned(o.batch, like) for o in outcomes])
    order = np.argsort(np.concatenate(rows), kind="stable")
    batch = joined.take(order)
    decisions = np.repeat(np.arange(len(rows), dtype=np.uint32), [len(r) for r in rows])[order]
    used: dict[str, Mask] = {}
    for outcome, at in zip(outcomes, rows, strict=True):
        values = outcome.batch.columns[FALLBACKS].array.astype(np.uint64)
        for i, name in enumerate(outcome.fallbacks):
            mask = used.setdefault(name, np.zeros(len(batch), bool))
            mask[at] = (values >> np.uint64(i)) & np.uint64(1)
    batch = batch.with_columns([bits(used, len(batch)), Column(DECISION, DType.UINT32, decisions)])
    timings = [t for o in outcomes for t in o.batch.timings]
    return Outcome(
        replace(batch, timings=timings), list(used)[:MAX_FALLBACKS], [m for o in outcomes for m in o.models]
    )


def _aligned(batch: Batch, like: dict[str, Column]) -> Batch:
    """The batch with the columns of `like`, in that order."""
    columns: dict[str, Column] = {}
    for name, column in like.items():
        fill = -1 if name.startswith(AGE) else 0
        mine = batch.columns.get(name)
        columns[name] = mine or Column(name, column.dtype, np.full(len(batch), fill, column.dtype.numpy))
    errors: dict[int, RowError] = dict(batch.errors)
    return Batch(batch.rows, columns, errors)
