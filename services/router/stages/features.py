"""Stages that read features, and what happens when there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError, Rows
from headrace.columns.column import Mask
from headrace.hop.errors import Code, Fault, reason_name
from headrace.pipeline import ColumnType, FeaturesStage, ViewSpec, null_column
from services.router import errors
from services.router.ports import FeatureSource, Rules
from services.router.stages.runner import StageResult, columns_of

# Numbered as headrace.api.features.v1.Source.
PRESENT, NOT_FOUND, OUTSIDE, STALE, DEFAULT = range(1, 6)
SOURCES = {NOT_FOUND: "not_found", OUTSIDE: "outside_max_age", STALE: "stale", DEFAULT: "default"}
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


def refused_sources(spec: ViewSpec) -> frozenset[int]:
    """Where a view's values may not be from, if the row is to be answered at all.

    That the store can't be asked is no excuse, whichever of the two it hides: no values, or old ones.
    """
    refused = {NOT_FOUND, DEFAULT} if spec.on_missing == "refuse" else set[int]()
    if spec.too_old == "refuse":
        refused |= {OUTSIDE, DEFAULT} if spec.takes_stale else {OUTSIDE, STALE, DEFAULT}
    return frozenset(refused)


def rules_of(views: Mapping[str, ViewSpec]) -> Rules:
    """What the features service is told about ages."""
    return tuple(
        (view, rule.max_age_us, rule.stale_us)
        for view, spec in views.items()
        if (rule := spec.freshness) is not None
    )


class _Verdict(NamedTuple):
    """What becomes of a batch's rows; see StageResult."""

    refused: dict[int, RowError]
    fallbacks: dict[str, Mask]
    refusals: dict[str, int]


_NOBODY = _Verdict({}, {}, {})


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
        self._rules = rules_of(stage.views)
        self._refused = {view: refused_sources(spec) for view, spec in stage.views.items()}
        self._may_default = not any(self._refused.values())

    async def run(self, batch: Batch) -> StageResult:
        try:
            reply = await self._source.get(self._stage.feature_service, self._rules, self._hurried(batch))
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
        deadlines = [min(d, limit) for d in rows.deadlines]
        # Not by dataclasses.replace, which looks at every field.
        hurried = Rows(rows.request_ids, rows.tenants, rows.priorities, deadlines, rows.traceparents)
        return Batch(hurried, batch.columns, batch.errors, batch.timings)

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
        judged = self._judge({c.name: c.array for c in annotations}, failed) if annotations else _NOBODY
        return StageResult(
            columns,
            annotations,
            {**judged.refused, **failed},
            judged.fallbacks,
            judged.refusals,
            reply.timings,
            attributes={"refused": " ".join(judged.refusals)} if judged.refusals else {},
        )

    def _judge(
        self, annotations: Mapping[str, NDArray[np.generic]], failed: Mapping[int, RowError]
    ) -> _Verdict:
        """The rows to refuse, and those that fell back, by the sources of their values."""
        verdict = _Verdict({}, {}, {})
        for view, refused in self._refused.items():
            sources = annotations[SOURCE + view]
            # The usual case. Bytes are counted in a tenth of the time that NumPy takes for one row.
            if sources.tobytes().count(PRESENT) == len(sources):
                continue
            self._check_sources(sources, failed)
            for source in SOURCES:
                mask = sources == source
                if failed:
                    mask[list(failed)] = False
                if not mask.any():
                    continue
                if source in refused:
                    self._refuse(
                        verdict, view, source, np.flatnonzero(mask).tolist(), annotations[AGE + view]
                    )
                else:
                    verdict.fallbacks[fallback_name(view, source)] = mask
        return verdict

    def _refuse(
        self, verdict: _Verdict, view: str, source: int, rows: list[int], ages: NDArray[np.generic]
    ) -> None:
        rule = self._stage.views[view].freshness
        limit_us = rule.max_age_us + rule.stale_us if rule else 0
        verdict.refusals[fallback_name(view, source)] = len(rows)
        for row in rows:
            if row not in verdict.refused:
                fault = errors.feature_unavailable(view, SOURCES[source], int(ages[row]), limit_us)
                verdict.refused[row] = RowError.of(fault, self._stage.name)

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
