"""Accuracy of a version, beside how much of it is known; how late labels came, as a histogram. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.monitoring.accuracy.records import VersionWindows, Window

QUANTILES = (0.5, 0.9, 0.99)
# Labels that are later than this share of them are not waited for.
_MOSTLY = 0.9
# Seconds: each bucket is a quarter longer than the one before; the last edge is 96 days.
_EDGES = tuple(1.25**k for k in range(72))


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """The fields of `VersionAccuracy` (accuracy.proto); None: absent there. `delays_s`: by `QUANTILES`; `newest`: start of the
    newest window, seconds since 1970."""

    pipeline: str
    version: str
    prediction_count: int
    label_count: int
    coverage: float | None
    accuracy: float | None
    judged_count: int
    wrong_count: int
    told_window_count: int
    window_count: int
    expected_accuracy: float | None
    contradiction_count: int
    delays_s: tuple[float, ...] | None
    newest: float


def bucket(delay_s: float) -> int:
    """The bucket that a delay falls into; the last is open."""
    return bisect_left(_EDGES, delay_s)


def figures(
    found: Sequence[VersionWindows], window_s: float, least_coverage: float, now: float
) -> list[VersionFigures]:
    """Of each version, by pipeline, the newest version first. `now`: seconds since 1970."""
    pooled: dict[str, Counter[int]] = {}
    for version in found:
        pooled.setdefault(version.pipeline, Counter()).update(version.delays)
    made = []
    for version in found:
        if version.windows:
            # Without labels of its own, a version waits for them as long as its pipeline does.
            patience_s = _quantile(version.delays or pooled[version.pipeline], _MOSTLY)
            oldest_s = None if patience_s is None else now - window_s - patience_s
            made.append(_of(version, oldest_s, least_coverage))
    return sorted(made, key=lambda f: (f.pipeline, -f.newest, f.version))


def _of(version: VersionWindows, until: float | None, least_coverage: float) -> VersionFigures:
    """`until`: most labels should be there of windows that began until then; None: it is not known when."""
    windows = version.windows
    told = [w for w in windows if w.labelled and w.coverage >= least_coverage]
    labelled, wrong = sum(w.labelled for w in told), sum(w.wrong for w in told)
    expected_rows = sum(w.expected_rows for w in windows)
    delays = [_quantile(version.delays, share) for share in QUANTILES]
    return VersionFigures(
        version.pipeline,
        version.version,
        sum(w.rows for w in windows),
        sum(w.labelled for w in windows),
        None if until is None else _coverage(windows, until),
        1 - wrong / labelled if labelled else None,
        labelled,
        wrong,
        len(told),
        len(windows),
        sum(w.expected for w in windows) / expected_rows if expected_rows else None,
        sum(w.contradictions for w in windows),
        tuple(d for d in delays if d is not None) or None,
        windows[-1].start,
    )


def _coverage(windows: Sequence[Window], until: float) -> float | None:
    # While no window is old enough, what is there is all that can be said.
    old = [w for w in windows if w.start <= until] or windows
    rows = sum(w.rows for w in old)
    return sum(w.labelled for w in old) / rows if rows else None


def _quantile(counts: Mapping[int, int], share: float) -> float | None:
    """So many of the labels came within so many seconds, or up to a quarter less (an edge of a bucket). None: no labels came."""
    wanted = math.ceil(sum(counts.values()) * share)
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted > 0:
            return _EDGES[min(number, len(_EDGES) - 1)]
    return None
