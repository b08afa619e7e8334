"""What one stage gives back, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.columns import Batch, Column, RowError, Timing
from headrace.columns.column import Mask
from headrace.pipeline import ColumnType, ModelUse
from services.router import errors


@dataclass(frozen=True, slots=True)
class StageResult:
    """Columns for the rows that were sent, in that order.

    `annotations`: columns that only the answer carries. `errors`: position → why that row failed.
    `fallbacks`: name → bool (rows,), the rows that used it. `refusals`: what a demanded view had instead of present
    values → how many rows were refused for it. `timings`: the callee's own, counted from when it got the call.
    """

    columns: Sequence[Column] = ()
    annotations: Sequence[Column] = ()
    errors: Mapping[int, RowError] = field(default_factory=dict)
    fallbacks: Mapping[str, Mask] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    timings: Sequence[Timing] = ()
    model: ModelUse | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


class StageRun(Protocol):
    """One stage of one pipeline, ready to run over batches."""

    @property
    def service(self) -> str:
        """The service that does the work."""
        ...

    async def run(self, batch: Batch) -> StageResult:
        """Runs the stage over rows with the columns it reads. Raises Fault if it failed for all of them."""
        ...


def columns_of(stage: str, reply: Batch, wanted: Mapping[str, ColumnType | None], rows: int) -> list[Column]:
    """The wanted columns of a reply; those of a reply in which every row failed are not there.

    Raises Fault INTERNAL if one is absent or not as declared.
    """
    if len(reply) != rows:
        raise errors.garbled(stage, f"{len(reply)} rows for {rows}")
    if len(reply.errors) == rows:
        return []
    found = []
    for name, kind in wanted.items():
        column = reply.columns.get(name)
        if column is None:
            raise errors.garbled(stage, f"column {name!r} is missing")
        if kind is not None and (column.dtype is not kind.dtype or column.row_shape != kind.row_shape):
            got = ColumnType(column.dtype, column.row_shape)
            raise errors.garbled(stage, f"column {name!r} is {got}, the pipeline declares {kind}")
        found.append(column)
    return found
