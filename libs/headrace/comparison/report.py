"""What two arms answered to the same rows, counted: agreement, differences, errors, times, worst rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType
from headrace.columns.column import Mask
from headrace.comparison.differences import differences, shown
from headrace.comparison.sketch import QuantileSketch
from headrace.comparison.worst import FAILED, OTHER_LABEL, DifferentRow, WorstRows
from headrace.hop.errors import reason_name


@dataclass(slots=True)
class OutputComparison:
    """One output over the rows that both answered. `live_true`, `shadow_true`: discordant pairs of a boolean, where only the
    one says true; `deltas`: of floating-point numbers."""

    dtype: DType
    rows: int = 0
    equal: int = 0
    live_true: int = 0
    shadow_true: int = 0
    deltas: QuantileSketch = field(default_factory=QuantileSketch)


class RowContext(NamedTuple):
    """Where a row comes from. `row`: position among the rows of its request; `inputs`: one row, without personal data (None: too
    large); `left_out`: columns that they lack."""

    row: int
    inputs: Batch | None
    left_out: Sequence[str]


# Of the row at a position of the batch; asked only for rows that are kept.
TakeRow = Callable[[int], RowContext]


@dataclass(slots=True)
class ComparisonReport:
    """Of one shadow arm against the arm that answered. `epoch`: names the process that counts; counts only grow in it."""

    pipeline: str
    release: int
    arm: str
    against: str
    epoch: str = ""
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    both_answered: int = 0
    shadow_failed: int = 0
    live_failed: int = 0
    both_failed: int = 0
    outputs: dict[str, OutputComparison] = field(default_factory=dict)
    live_seconds: QuantileSketch = field(default_factory=QuantileSketch)
    shadow_seconds: QuantileSketch = field(default_factory=QuantileSketch)
    worst: WorstRows = field(default_factory=WorstRows)
    dropped: dict[str, int] = field(default_factory=dict)
    # Failures of the shadow's rows, by reason: as many as there are reasons.
    errors: dict[str, int] = field(default_factory=dict)
    # Of floating-point numbers, absolute, and relative to the first one's; both 0: they must be the same bit for bit.
    tolerance: float = 0.0
    relative: float = 0.0

    @property
    def rows(self) -> int:
        """Rows that both were asked."""
        return self.both_answered + self.shadow_failed + self.live_failed + self.both_failed

    def drop(self, reason: str, rows: int) -> None:
        """Rows of the shadow's share that did not run."""
        self.dropped[reason] = self.dropped.get(reason, 0) + rows

    def add(
        self,
        live: Batch,
        shadow: Batch,
        outputs: Iterable[str],
        take: TakeRow,
        live_seconds: NDArray[np.float64],
        shadow_seconds: float,
    ) -> int:
        """Counts the rows of two answers to one batch; returns how many of them differ. `live_seconds`: float64 (rows,),
        NaN where there is none to compare; `shadow_seconds`: of each row."""
        live_ok, shadow_ok = live.ok(), shadow.ok()
        both = live_ok & shadow_ok
        self.both_answered += int(both.sum())
        failed = live_ok & ~shadow_ok
        self.shadow_failed += int(failed.sum())
        self.live_failed += int((~live_ok & shadow_ok).sum())
        self.both_failed += int((~live_ok & ~shadow_ok).sum())
        for error in shadow.errors.values():
            name = reason_name(error.reason)
            self.errors[name] = self.errors.get(name, 0) + 1
        timed = live_seconds[~np.isnan(live_seconds)]
        self.live_seconds.add(timed)
        self.shadow_seconds.add(np.array([shadow_seconds]), len(timed))
        scores, named = np.where(failed, FAILED, 0.0), dict[str, Mask]()
        for name in outputs:
            if name in live.columns and name in shadow.columns and both.any():
                named[name] = self._output(name, live.columns[name], shadow.columns[name], both, scores)
        different = failed.copy()
        for mask in named.values():
            different |= mask
        self._keep_worst(live, shadow, scores, named, take)
        return int(different.sum())

    def _output(self, name: str, live: Column, shadow: Column, both: Mask, scores: np.ndarray) -> Mask:
        """Counts one output; raises `scores` of the rows that differ; returns which do."""
        found = differences(live, shadow, self.tolerance, self.relative)
        differs = found.differs & both
        counted = self.outputs.setdefault(name, OutputComparison(live.dtype))
        counted.rows += int(both.sum())
        counted.equal += int((both & ~differs).sum())
        if found.deltas is not None:
            counted.deltas.add(found.deltas[both])
            deltas = np.where(differs, found.deltas, 0.0)
            with np.errstate(invalid="ignore"):
                graded = np.where(np.isinf(deltas), 1.0, deltas / (1 + deltas))
            np.maximum(scores, graded, out=scores)
        else:
            np.maximum(scores, np.where(differs, OTHER_LABEL, 0.0), out=scores)
            if live.dtype is DType.BOOL and shadow.dtype is DType.BOOL and not live.row_shape:
                yes, no = live.array & differs, shadow.array & differs
                counted.live_true += int((yes & ~no).sum())
                counted.shadow_true += int((no & ~yes).sum())
        return differs

    def _keep_worst(
        self, live: Batch, shadow: Batch, scores: np.ndarray, named: Mapping[str, Mask], take: TakeRow
    ) -> None:
        for row in np.argsort(-scores, kind="stable").tolist():
            if scores[row] <= self.worst.least:
                return
            values = [
                (name, shown(live.columns[name], row), shown(shadow.columns[name], row))
                for name, mask in named.items()
                if mask[row]
            ]
            error = shadow.errors.get(row)
            told = f"{reason_name(error.reason)}: {error.message}" if error else ""
            request_id, score, context = live.rows.request_ids[row], float(scores[row]), take(row)
            self.worst.add(
                DifferentRow(request_id, context.row, score, values, told, context.inputs, context.left_out)
            )

    def merge(self, other: ComparisonReport) -> None:
        """Adds the counts of another process."""
        self.epoch = " ".join(sorted({*self.epoch.split(), *other.epoch.split()}))
        self.began = min(self.began, other.began)
        self.both_answered += other.both_answered
        self.shadow_failed += other.shadow_failed
        self.live_failed += other.live_failed
        self.both_failed += other.both_failed
        self.live_seconds.merge(other.live_seconds)
        self.shadow_seconds.merge(other.shadow_seconds)
        for name, found in other.outputs.items():
            mine = self.outputs.setdefault(name, OutputComparison(found.dtype))
            mine.rows += found.rows
            mine.equal += found.equal
            mine.live_true += found.live_true
            mine.shadow_true += found.shadow_true
            mine.deltas.merge(found.deltas)
        for row in other.worst.sorted():
            self.worst.add(row)
        for reason, rows in other.dropped.items():
            self.drop(reason, rows)
        for reason, rows in other.errors.items():
            self.errors[reason] = self.errors.get(reason, 0) + rows


def merged(reports: Iterable[ComparisonReport]) -> list[ComparisonReport]:
    """One report for each pipeline, release and pair of arms, newest release first. The reports given are changed."""
    found: dict[tuple[str, int, str, str], ComparisonReport] = {}
    for report in reports:
        key = report.pipeline, report.release, report.arm, report.against
        if key in found:
            found[key].merge(report)
        else:
            found[key] = report
    return sorted(found.values(), key=lambda r: (r.pipeline, -r.release, r.arm, r.against))
