"""Accuracy of a version, beside how much of it is known. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.monitoring.accuracy.delays import quantile
from services.monitoring.accuracy.records import VersionWindows, Window

QUANTILES = (0.5, 0.9, 0.99)
# Labels that are later than this share of them are not waited for.
_MOSTLY = 0.9


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """`coverage`: share of the predictions with a label, of windows so old that most labels should be there; None: no label of
    this pipeline ever came. `accuracy`: share of right ones among the `labelled` predictions of the `told` windows, those whose
    coverage is enough; None: there are none. `expected`: what the model itself expects without labels; None: its baseline does
    not say that its probabilities are calibrated. `delays_s`: by `QUANTILES`; None: no labels. `newest`: start of the newest
    window."""

    pipeline: str
    version: str
    rows: int
    labels: int
    coverage: float | None
    accuracy: float | None
    labelled: int
    wrong: int
    told: int
    windows: int
    expected: float | None
    delays_s: tuple[float, ...] | None
    contradictions: int
    newest: float


def figures(
    found: Sequence[VersionWindows], window_s: float, least_coverage: float, now: float
) -> list[VersionFigures]:
    """Of each version, by pipeline, the newest version first. `now`: seconds since 1970."""
    made = [
        _of(version, _patience(version, found), window_s, least_coverage, now)
        for version in found
        if version.windows
    ]
    return sorted(made, key=lambda f: (f.pipeline, -f.newest, f.version))


def _of(
    version: VersionWindows, patience_s: float | None, window_s: float, least_coverage: float, now: float
) -> VersionFigures:
    windows = version.windows
    told = [w for w in windows if w.labelled and w.coverage >= least_coverage]
    labelled, wrong = sum(w.labelled for w in told), sum(w.wrong for w in told)
    expected_rows = sum(w.expected_rows for w in windows)
    delays = [quantile(version.delays, share) for share in QUANTILES]
    return VersionFigures(
        version.pipeline,
        version.version,
        sum(w.rows for w in windows),
        sum(w.labelled for w in windows),
        _coverage(windows, patience_s, window_s, now),
        1 - wrong / labelled if labelled else None,
        labelled,
        wrong,
        len(told),
        len(windows),
        sum(w.expected for w in windows) / expected_rows if expected_rows else None,
        tuple(d for d in delays if d is not None) or None,
        sum(w.contradictions for w in windows),
        windows[-1].start,
    )


def _patience(version: VersionWindows, every: Iterable[VersionWindows]) -> float | None:
    """So long most labels take: those of the version; of its pipeline, if it has none; None if that has none either."""
    if version.delays:
        return quantile(version.delays, _MOSTLY)
    pooled: dict[int, int] = {}
    for other in every:
        if other.pipeline == version.pipeline:
            for number, count in other.delays.items():
                pooled[number] = pooled.get(number, 0) + count
    return quantile(pooled, _MOSTLY)


def _coverage(
    windows: Sequence[Window], patience_s: float | None, window_s: float, now: float
) -> float | None:
    if patience_s is None:
        return None
    # While no window is old enough, what is there is all that can be told.
    old = [w for w in windows if w.start + window_s + patience_s <= now] or windows
    rows = sum(w.rows for w in old)
    return sum(w.labelled for w in old) / rows if rows else None
