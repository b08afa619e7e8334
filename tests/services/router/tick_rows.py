"""A pipeline, answers of it, and how they are counted: for tests of what the router counts."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, RowError, Rows
from headrace.hop.errors import Code, Reason
from headrace.pipeline import Pipeline
from services.router.ticks.counters import NO_RELEASE, Counted, Counters, Part

PIPELINE = Pipeline("flights", 1, "0" * 64, "", 1000, (), (), ())
OURS = RowError(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "")
CALLERS = RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "")


def answer(
    values: Sequence[float | None], errors: Mapping[int, RowError] | None = None, request: str = "r"
) -> Batch:
    """One row a value, in the column p."""
    p = np.array([0.0 if v is None else v for v in values], np.float32)
    valid = np.array([v is not None for v in values]) if None in values else None
    rows = Rows.one_request(len(values), request, "tenant", 1e9)
    return Batch.of(rows, [Column.of("p", p, valid)]).with_errors(errors or {})


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


def deliver(counters: Counters) -> None:
    """The receiver gets a tick."""
    counters.received(counters.tick())
