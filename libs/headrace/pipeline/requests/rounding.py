"""Answers as they leave: rounded where the document says so.

The digits that nobody needs are what a copy of the model learns most from.
"""

from __future__ import annotations

import numpy as np

from headrace.columns import Batch, Column
from headrace.pipeline.spec import Pipeline


def rounds(pipeline: Pipeline) -> bool:
    """Whether any of its outputs is rounded."""
    return any(output.digits is not None for output in pipeline.outputs)


def rounded(pipeline: Pipeline, batch: Batch) -> Batch:
    """The batch with the outputs of the pipeline rounded to the digits that its document says; halves go to even.

    What the rounding of a number gives depends on that number alone, here and offline.
    """
    changed = []
    for output in pipeline.outputs:
        column = batch.columns.get(output.name)
        if output.digits is not None and column is not None and column.dtype.is_float:
            with np.errstate(over="ignore", invalid="ignore"):
                # In 64 bits: in 32 some numbers would come out one unit beside.
                values = np.round(column.array.astype(np.float64), output.digits).astype(column.array.dtype)
            # Beyond the digits that the type has there is nothing to round, but much to overflow.
            values = np.where(np.isfinite(values), values, column.array)
            changed.append(Column(column.name, column.dtype, values, column.row_shape, column.valid))
    return batch.with_columns(changed) if changed else batch
