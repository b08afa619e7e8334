"""Runs a program over a batch, without the rows that failed before or whose deadline has passed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column
from headrace.columns.column import join
from headrace.steps.program.program import Program, Result


def run_batch(program: Program, batch: Batch, now: float) -> tuple[Batch, Result | None]:
    """The outputs for all rows of `batch`, in its order, and the result of the run (None: no row took part).

    `now`: monotonic seconds. The returned batch has only the program's outputs; rows that failed before keep their error.
    Raises Fault as `Program.run`.
    """
    errors = {**batch.expired(now, program.kind), **batch.errors}
    if not errors:
        result = program.run(batch.columns, len(batch))
        return Batch(batch.rows, result.columns, result.errors), result
    taking_part = np.ones(len(batch), bool)
    taking_part[list(errors)] = False
    index = np.flatnonzero(taking_part)
    if not len(index):
        blank = {o.name: o.blank(len(batch)) for o in program.outputs}
        return Batch(batch.rows, blank, errors), None
    read: Mapping[str, Column] = {
        n: batch.columns[n].take(index) for n in program.reads if n in batch.columns
    }
    result = program.run(read, len(index))
    for position, error in result.errors.items():
        errors[int(index[position])] = error
    columns = {
        o.name: _spread(result.columns[o.name], index, len(batch), o.blank(1)) for o in program.outputs
    }
    return Batch(batch.rows, columns, errors), result


def _spread(column: Column, index: NDArray[np.intp], rows: int, blank: Column) -> Column:
    """A column of `rows` rows: those of `column` at the positions `index`, and the row of `blank` at all others.

    A row that took no part must not get another row's value: they may belong to different tenants.
    """
    source = np.full(rows, len(column), np.intp)
    source[index] = np.arange(len(index))
    return join([column, blank]).take(source)
