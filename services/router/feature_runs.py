"""Stages that read features, and what happens when there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError
from headrace.columns.column import Mask
from headrace.hop.errors import Code, Fault, reason_name
from headrace.pipeline import ColumnType, FeaturesStage, ViewSpec, null_column
from services.router import errors
from services.router.ports import FeatureSource
from services.router.results import StageResult, columns_of

# Numbered as headrace.api.features.v1.Source.
PRESENT = 1
SOURCES = {2: "not_found", 3: "outside_max_age", 4: "stale", 5: "default"}
DEFAULT = 5
AGE = "@age_us/"
SOURCE = "@source/"
# The service could not answer; anything else is an answer.
_OUTAGES = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.RESOURCE_EXHAUSTED,
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.ABORTED,
        Code.CANCELLED,
        Code.DATA_LOSS,
    }
)


def fallback_name(view: str, source: int) -> str:
    """`features/<view>:<source>`."""
    return f"features/{view}:{SOURCES[source]}"


class FeaturesRun:
    """A features stage. `timeout_s`: its share of a row's time. `clock`: monotonic seconds."""

    service = "features"

    def __init__(
        self, stage: FeaturesStage, source: FeatureSource, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        self._stage = stage
        self._source = source
        self._timeout_s = timeout_s
        self._clock = clock
        self._types: dict[str, ColumnType | None] = {
            name: ColumnType(dtype) for view in stage.views.values() for name, dtype in view.features.items()
        }
        annotations: dict[str, ColumnType | None] = {}
        for view in stage.views:
            annotations[AGE + view] = ColumnType(DType.INT64)
            annotations[SOURCE + view] = ColumnType(DType.UINT8)
        self._annotations = annotations
        self._may_default = all(v.on_missing == "default" for v in stage.views.values())

    async def run(self, batch: Batch) -> StageResult:
        try:
            reply = await self._source.get(self._stage.feature_service, self._hurried(batch))
            return self._read(reply, len(batch))
        except Fault as fault:
            if fault.code in _OUTAGES and self._may_default:
                return self._defaults(len(batch), fault)
            raise

    def _hurried(self, batch: Batch) -> Batch:
        """The batch with deadlines that leave the other stages their time."""
        limit = self._clock() + self._timeout_s
        rows = batch.rows
        if max(rows.deadlines) <= limit:
            return batch
        return replace(batch, rows=replace(rows, deadlines=[min(d, limit) for d in rows.deadlines]))

    def _read(self, reply: Batch, rows: int) -> StageResult:
        failed = reply.errors
        if failed and self._may_default:
            failed = {row: e for row, e in failed.items() if e.code not in _OUTAGES}
        lost = [row for row in reply.errors if row not in failed]
        if len(lost) == rows:
            return self._defaults(rows, reply.errors[lost[0]].fault())
        columns = columns_of(self._stage.name, reply, self._types, rows)
        annotations = columns_of(self._stage.name, reply, self._annotations, rows)
        if lost:
            columns = [_without(c, lost) for c in columns]
            annotations = [
                _overwritten(c, lost, DEFAULT if c.dtype is DType.UINT8 else -1) for c in annotations
            ]
        refused, fallbacks = self._judge(annotations, failed)
        return StageResult(columns, annotations, {**refused, **failed}, fallbacks, reply.timings)

    def _judge(
        self, annotations: list[Column], failed: Mapping[int, RowError]
    ) -> tuple[dict[int, RowError], dict[str, Mask]]:
        """The rows to refuse, and those that fell back, by the sources of their values."""
        refused: dict[int, RowError] = {}
        fallbacks: dict[str, Mask] = {}
        for column in annotations:
            if column.dtype is not DType.UINT8:
                continue
            sources = column.array
            if (sources == PRESENT).all():
                continue
            view = column.name.removeprefix(SOURCE)
            self._check_sources(sources, failed)
            for source, label in SOURCES.items():
                mask = sources == source
                if failed:
                    mask[list(failed)] = False
                if not mask.any():
                    continue
                if self._stage.views[view].on_missing == "refuse":
                    error = RowError.of(errors.feature_unavailable(view, label), self._stage.name)
                    refused |= {row: error for row in np.flatnonzero(mask).tolist() if row not in refused}
                else:
                    fallbacks[fallback_name(view, source)] = mask
        return refused, fallbacks

    def _check_sources(self, sources: NDArray[np.generic], failed: Mapping[int, RowError]) -> None:
        unknown = np.flatnonzero((sources == 0) | (sources > np.uint8(DEFAULT)))
        if any(row not in failed for row in unknown.tolist()):
            raise errors.garbled(self._stage.name, "a source of values that does not exist")

    def _defaults(self, rows: int, fault: Fault) -> StageResult:
        """Nulls for every feature, as if no view had a value."""
        columns = [null_column(n, t, rows) for n, t in self._types.items() if t is not None]
        annotations = [_constant(n, t, rows) for n, t in self._annotations.items() if t is not None]
        everyone = np.ones(rows, bool)
        return StageResult(
            columns,
            annotations,
            fallbacks={fallback_name(view, DEFAULT): everyone for view in self._stage.views},
            attributes={"fallback.reason": reason_name(fault.reason), "fallback.code": fault.code.name},
        )


def _constant(name: str, kind: ColumnType, rows: int) -> Column:
    value = DEFAULT if kind.dtype is DType.UINT8 else -1
    return Column(name, kind.dtype, np.full(rows, value, kind.dtype.numpy))


def _without(column: Column, rows: list[int]) -> Column:
    valid = column.is_valid().copy()
    valid[rows] = False
    return replace(column, valid=valid)


def _overwritten(column: Column, rows: list[int], value: int) -> Column:
    values = column.array.copy()
    values[rows] = value
    return replace(column, values=values)


def fallbacks_of(views: Mapping[str, ViewSpec]) -> list[str]:
    """Every fallback that the views can lead to."""
    return [fallback_name(v, s) for v, spec in views.items() if spec.on_missing == "default" for s in SOURCES]
