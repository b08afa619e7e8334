"""A pipeline, answers of it, and how they are counted: for tests of what the router counts."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError, Rows
from headrace.hop.errors import Code, Reason
from headrace.pipeline import OutputField, Pipeline
from headrace.pipeline.types import ColumnType
from headrace.ticks import Exposure
from services.router.facts.queue import Lane, Queue
from services.router.ticks.counters import NO_RELEASE, Counted, Counters, Part

OUTPUTS = (
    OutputField("late", ColumnType(DType.BOOL)),
    OutputField("p", ColumnType(DType.FLOAT32)),
    OutputField("code", ColumnType(DType.INT32)),
    OutputField("said", ColumnType(DType.BYTES)),
    OutputField("vector", ColumnType(DType.FLOAT32, (2,))),
)
PIPELINE = Pipeline("flights", 1, "0" * 64, "", 1000, (), (), OUTPUTS)
OURS = RowError(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "")
CALLERS = RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "")


def answer(
    values: Sequence[float | None], errors: Mapping[int, RowError] | None = None, request: str = "r"
) -> Batch:
    """One row a value: p is the value, late whether it is above 0.5, code its floor."""
    count = len(values)
    p = np.array([0.0 if v is None else v for v in values], np.float32)
    valid = np.array([v is not None for v in values]) if None in values else None
    columns = [
        Column.of("late", p > 0.5),
        Column.of("p", p, valid),
        Column.of("code", np.floor(np.clip(np.nan_to_num(p), -1e6, 1e6)).astype(np.int32)),
        Column.of_text("said", ["x"] * count),
        Column.of("vector", np.zeros((count, 2), np.float32)),
    ]
    batch = Batch.of(Rows.one_request(count, request, "tenant", 1e9), columns)
    return Batch(batch.rows, batch.columns, errors or {})


def part(
    batch: Batch, arm: str = "live", whole: Batch | None = None, positions: NDArray[np.intp] | None = None
) -> Part:
    return Part(arm, PIPELINE, whole or batch, batch, positions)


def count(
    counters: Counters,
    values: Sequence[float | None] = (0.1,),
    errors: Mapping[int, RowError] | None = None,
    *,
    how: Counted = NO_RELEASE,
    arm: str = "live",
    request: str = "r",
) -> None:
    """Counts rows that were answered, in a tenth of a second."""
    batch = answer(values, errors, request)
    counters.answered(how, part(batch, arm), batch, 0.1)


def exposure_lane(max_bytes: int = 1 << 20) -> Lane[Sequence[Exposure]]:
    """Where exposures wait."""
    return Lane(Queue(max_bytes), 2048, lambda _: None)


def deliver(counters: Counters) -> None:
    """The receiver gets a tick."""
    counters.received(counters.tick())
