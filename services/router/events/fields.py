"""What events say of how a row was answered, by functions of batches that were answered alike."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column
from services.router.events.busy import busy_fields
from services.router.events.ring import AnsweredBatch
from services.router.events.stages import stage_fields

# Of the batches, how many rows each has, and which of all rows have kept answers: columns with a value for each row, whose names
# begin with "@". It yields after each step, so that the loop can do something else between.
Fields: TypeAlias = Callable[
    [Sequence[AnsweredBatch], NDArray[np.int64], NDArray[np.bool_]], Generator[None, None, list[Column]]
]
FIELDS: tuple[Fields, ...] = (
    busy_fields,
    stage_fields,
)
