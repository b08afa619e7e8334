"""What two arms answered to the same rows, counted: agreement, differences, errors, worst rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType
from headrace.columns.column import Mask
from headrace.comparison.differences import differences, shown
from headrace.hop.errors import reason_name

_WORST = 20
# Scores: the second alone failed the row; another label; a number that differs by d has d / (1 + d), which is below 1.
FAILED, OTHER_LABEL = 3.0, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class DifferentRow:
    """A row that two versions answered differently. `values`: output, what the caller got, what the second answered."""

    prediction_id: str
    score: float
    values: Sequence[tuple[str, str, str]]
    error: str


@dataclass(slots=True)
class OutputComparison:
    """One output over the rows that both answered. `live_true`, `shadow_true`: discordant pairs of a boolean, where only the
    one says true; `deltas`: of floating-point numbers, part by part."""

    dtype: DType
    rows: int = 0
    equal: int = 0
    live_true: int = 0
    shadow_true: int = 0
    deltas: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass(slots=True)
class ComparisonReport:
    """Of an arm, `shadow`, against the arm that answered, `live`."""

    both_answered: int = 0
    shadow_failed: int = 0
    live_failed: int = 0
    both_failed: int = 0
    outputs: dict[str, OutputComparison] = field(default_factory=dict)
    # The rows with the highest scores, the highest first; of equal ones those that came first.
    worst: list[DifferentRow] = field(default_factory=list)
    # Failures of the shadow's rows, by reason: as many as there are reasons.
    errors: dict[str, int] = field(default_factory=dict)
    # Of floating-point numbers, absolute, and relative to the first one's; both 0: they must be the same bit for bit.
    tolerance: float = 0.0
    relative: float = 0.0

    @property
    def rows(self) -> int:
        """Rows that both were asked."""
        return self.both_answered + self.shadow_failed + self.live_failed + self.both_failed

    def add(self, live: Batch, shadow: Batch, outputs: Iterable[str]) -> int:
        """Counts the rows of two answers to one batch, whose request ids are prediction ids; returns how many of them differ."""
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
        scores, named = np.where(failed, FAILED, 0.0), dict[str, Mask]()
        for name in outputs:
            if name in live.columns and name in shadow.columns and both.any():
                named[name] = self._output(name, live.columns[name], shadow.columns[name], both, scores)
        different = failed.copy()
        for mask in named.values():
            different |= mask
        self._add_worst(live, shadow, scores, named)
        return int(different.sum())

    def _output(self, name: str, live: Column, shadow: Column, both: Mask, scores: np.ndarray) -> Mask:
        """Counts one output; raises `scores` of the rows that differ; returns which do."""
        found = differences(live, shadow, self.tolerance, self.relative)
        differs = found.differs & both
        counted = self.outputs.setdefault(name, OutputComparison(live.dtype))
        counted.rows += int(both.sum())
        counted.equal += int((both & ~differs).sum())
        if found.deltas is not None:
            counted.deltas.append(found.deltas[both])
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

    def _add_worst(self, live: Batch, shadow: Batch, scores: np.ndarray, named: Mapping[str, Mask]) -> None:
        found = []
        for row in np.argsort(-scores, kind="stable")[:_WORST].tolist():
            if not scores[row]:
                break
            values = [
                (name, shown(live.columns[name], row), shown(shadow.columns[name], row))
                for name, mask in named.items()
                if mask[row]
            ]
            error = shadow.errors.get(row)
            why = ": ".join(filter(None, (reason_name(error.reason), error.message))) if error else ""
            found.append(DifferentRow(live.rows.request_ids[row], float(scores[row]), values, why))
        self.worst = sorted([*self.worst, *found], key=lambda row: -row.score)[:_WORST]
