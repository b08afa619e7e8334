"""Where a change is: the rows of one tenant or category, without which it would not be there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Mask
from headrace.drift.baseline import Baseline, CategoryBaseline
from headrace.drift.column_figures import figures
from headrace.drift.values import Values, text_of, texts
from headrace.drift.verdicts import Level, Limits, Verdict, judge

# Of one kind, the most frequent. A segment with more than this share of the rows says nothing: it is nearly all of them.
_SEGMENTS, _MOST_ROWS = 20, 0.5
# What is left must be enough to show the change if it were there.
_LEAST_ROWS = 100
# By less of the change in what is left, it was in the segment; chance may take away some.
_REST = 0.5


def segment_of(
    baseline: Baseline,
    columns: Mapping[str, Values | None],
    tenants: Sequence[str],
    changed: Verdict,
    limits: Limits,
) -> str:
    """The segment, such as "tenant acme", whose rows alone make a column fail a check (`changed`); "": no single one does."""
    values = columns.get(changed.column)
    if values is None:
        return ""
    for name, mask in _segments(baseline, columns, tenants, changed.column):
        rest = np.flatnonzero(~mask)
        if mask.mean() > _MOST_ROWS or len(rest) < _LEAST_ROWS:
            continue
        left = _judged(baseline, values, rest, changed, limits)
        if left is not None and left.level is Level.FINE and _size(left) < _REST * _size(changed):
            return name
    return ""


def _judged(
    baseline: Baseline, values: Values, rows: NDArray[np.intp], changed: Verdict, limits: Limits
) -> Verdict | None:
    """What the same check says of some of the rows."""
    some = values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
    found = figures(baseline.counted, {changed.column: some}, len(rows))
    return next((v for v in judge(baseline, found, limits) if v.check is changed.check), None)


def _size(verdict: Verdict) -> float:
    return abs(verdict.value - verdict.before)


def _segments(
    baseline: Baseline, columns: Mapping[str, Values | None], tenants: Sequence[str], changed: str
) -> Iterator[tuple[str, Mask]]:
    """Tenants, then categories of other columns; of each kind the rarest first."""
    kinds: dict[str, Sequence[str]] = {"tenant": tenants} if tenants else {}
    for name, about in baseline.columns.items():
        if (
            isinstance(about, CategoryBaseline)
            and name != changed
            and (values := columns.get(name)) is not None
        ):
            kinds[name] = ["" if item is None else text_of(item) for item in texts(values)]
    for kind, of in kinds.items():
        for value, _ in reversed(Counter(of).most_common(_SEGMENTS)):
            yield f"{kind} {value}", np.array([item == value for item in of])
