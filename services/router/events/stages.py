"""How long the stages of a batch took."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.events import STAGE_US
from services.router.events.ring import AnsweredBatch

_NOT_RUN = -1


def stage_fields(
    parts: Sequence[AnsweredBatch], counts: NDArray[np.int64], _: NDArray[np.bool_]
) -> Generator[None, None, list[Column]]:
    """A field of events (`fields.py`): by stage, its time in the batch of a row, in µs."""
    found: dict[str, list[int]] = {}
    for i, part in enumerate(parts):
        for timing in part.timings:
            if "/" not in timing.stage:
                found.setdefault(STAGE_US + timing.stage, [_NOT_RUN] * len(parts))[i] = timing.duration_us
    yield
    spread = {name: np.repeat(np.array(values, np.int64), counts) for name, values in found.items()}
    return [Column(name, DType.INT64, values) for name, values in spread.items()]
