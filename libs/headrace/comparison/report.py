"""What two arms answered to the same rows, counted: agreement, differences, errors, worst rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.api.monitoring.v1 import shadow_pb2 as pb
from headrace.columns import Batch, Column, DType
from headrace.columns.column import Mask
from headrace.comparison.differences import differences, shown
from headrace.hop.errors import reason_name

_WORST = 20
ShadowReport: TypeAlias = pb.ShadowReport
# Scores: the second alone failed the row; another label; a number that differs by d has d / (1 + d), which is below 1.
FAILED, OTHER_LABEL = 3.0, 2.0
_QUANTILES = (0.5, 0.9, 0.99, 1.0)


class ComparisonReport:
    """Of an arm, `shadow`, against the arm that answered, `live`. `tolerance`, `relative`: of floating-point numbers, absolute,
    and relative to the first one's; both 0: they must be the same bit for bit."""

    def __init__(self, tolerance: float = 0.0, relative: float = 0.0) -> None:
        self.tolerance, self.relative = tolerance, relative
        self._counted = pb.ShadowReport()
        self._outputs: dict[str, pb.OutputComparison] = {}
        # Of floating-point numbers, part by part.
        self._deltas: dict[str, list[NDArray[np.float64]]] = {}

    @property
    def rows(self) -> int:
        """Rows that both were asked."""
        c = self._counted
        return c.both_answered_count + c.shadow_failed_count + c.live_failed_count + c.both_failed_count

    def message(self) -> pb.ShadowReport:
        """What was counted. `worst`: the highest scores first; of equal ones those that came first."""
        for name, parts in self._deltas.items():
            self._outputs[name].deltas.CopyFrom(quantiles(parts))
        return self._counted

    def add(self, live: Batch, shadow: Batch, outputs: Iterable[str]) -> int:
        """Counts the rows of two answers to one batch, whose request ids are prediction ids; returns how many of them differ."""
        live_ok, shadow_ok, counted = live.ok(), shadow.ok(), self._counted
        both, failed = live_ok & shadow_ok, live_ok & ~shadow_ok
        counted.both_answered_count += int(both.sum())
        counted.shadow_failed_count += int(failed.sum())
        counted.live_failed_count += int((~live_ok & shadow_ok).sum())
        counted.both_failed_count += int((~live_ok & ~shadow_ok).sum())
        for error in shadow.errors.values():
            counted.shadow_errors[reason_name(error.reason)] += 1
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
        counted = self._outputs.get(name)
        if counted is None:
            counted = self._outputs[name] = self._counted.outputs.add(name=name, data_type=live.dtype)
        counted.row_count += int(both.sum())
        counted.equal_count += int((both & ~differs).sum())
        if found.deltas is not None:
            self._deltas.setdefault(name, []).append(found.deltas[both])
            deltas = np.where(differs, found.deltas, 0.0)
            with np.errstate(invalid="ignore"):
                graded = np.where(np.isinf(deltas), 1.0, deltas / (1 + deltas))
            np.maximum(scores, graded, out=scores)
        else:
            np.maximum(scores, np.where(differs, OTHER_LABEL, 0.0), out=scores)
            if live.dtype is DType.BOOL and shadow.dtype is DType.BOOL and not live.row_shape:
                # Discordant pairs, where only the one says true.
                yes, no = live.array & differs, shadow.array & differs
                counted.live_true_count += int((yes & ~no).sum())
                counted.shadow_true_count += int((no & ~yes).sum())
        return differs

    def _add_worst(self, live: Batch, shadow: Batch, scores: np.ndarray, named: Mapping[str, Mask]) -> None:
        found = list(self._counted.worst)
        for row in np.argsort(-scores, kind="stable")[:_WORST].tolist():
            if not scores[row]:
                break
            error = shadow.errors.get(row)
            why = ": ".join(filter(None, (reason_name(error.reason), error.message))) if error else ""
            different = pb.DifferentRow(
                prediction_id=live.rows.request_ids[row], score=scores[row], shadow_error=why
            )
            for name, mask in named.items():
                if mask[row]:
                    old, new = shown(live.columns[name], row), shown(shadow.columns[name], row)
                    different.values.add(output=name, live=old, shadow=new)
            found.append(different)
        found.sort(key=lambda row: -row.score)
        del self._counted.worst[:]
        self._counted.worst.extend(found[:_WORST])


def quantiles(parts: Sequence[NDArray[np.float64]]) -> pb.Quantiles:
    """Exact ones, each a value that is there, of the values of all parts, of which none is NaN."""
    values = np.concatenate([*parts, np.array([], np.float64)])
    if not len(values):
        return pb.Quantiles()
    p50, p90, p99, most = np.quantile(values, _QUANTILES, method="inverted_cdf").tolist()
    return pb.Quantiles(value_count=len(values), p50=p50, p90=p90, p99=p99, max=most)
