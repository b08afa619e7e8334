"""The last minutes of each arm, from the cumulative counts of the routers: rates, errors, slow rows, quantiles."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import TypeAlias

from headrace.releases import LIVE
from headrace.ticks import ArmFigures, ArmName, added
from headrace.ticks.bins import quantile, slower_than

# A sample every 5 s, for 15 minutes; the table shows the last minute.
SAMPLE_S = 5.0
_KEPT = 180
_MINUTE = 12
# Arms of which a sample is kept; the busiest first.
_ARMS = 256

# Epoch of a router → its cumulative counts.
Counts: TypeAlias = Mapping[int, Mapping[ArmName, ArmFigures]]
_Arm: TypeAlias = tuple[str, str]
NOTHING = ArmFigures(0, 0, ())


@dataclass(frozen=True, slots=True)
class _Point:
    """What the chart shows of an arm in one sample."""

    rows: int
    errors: int
    p95_s: float


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    span_s: float
    points: Mapping[_Arm, _Point]


class Live:
    """Takes samples of `Ticks`. What a router counted before it was first seen here is left out: nobody knows when that was."""

    def __init__(self) -> None:
        self._before: dict[int, Mapping[ArmName, ArmFigures]] = {}
        self._at: float | None = None
        self._samples: deque[_Sample] = deque(maxlen=_KEPT)
        # With the histograms, which would take too much room for 15 minutes.
        self._minute: deque[tuple[float, Mapping[_Arm, ArmFigures]]] = deque(maxlen=_MINUTE)

    def sample(self, counts: Counts, at: float) -> None:
        """Takes the counts of all routers. `at`: seconds since 1970."""
        span = SAMPLE_S if self._at is None else max(at - self._at, 0.001)
        found: dict[_Arm, ArmFigures] = {}
        for epoch, arms in counts.items():
            before = self._before.get(epoch)
            for name, more in _grown(before, arms) if before is not None else ():
                arm = (name.pipeline, name.arm)
                found[arm] = added(found.get(arm, NOTHING), more)
        self._before, self._at = dict(counts), at
        busiest = dict(sorted(found.items(), key=lambda one: -one[1].rows)[:_ARMS])
        points = {arm: _Point(f.rows, f.errors, quantile(f.latency, 0.95)) for arm, f in busiest.items()}
        self._samples.append(_Sample(at, span, points))
        self._minute.append((span, busiest))

    def minute(self, pipeline: str) -> tuple[float, dict[str, ArmFigures]]:
        """(seconds, arm → figures) of the last minute, or of what there is of it."""
        sums: dict[str, ArmFigures] = {}
        for _, arms in self._minute:
            for (name, arm), figures in arms.items():
                if name == pipeline:
                    sums[arm] = added(sums.get(arm, NOTHING), figures)
        return sum(span for span, _ in self._minute), sums

    def series(self, pipeline: str) -> dict[str, object]:
        """The last 15 minutes for the chart: `at` (seconds since 1970), and per arm rows a second, share of errors, p95 in ms.

        None where the arm had no rows.
        """
        found = {arm for s in self._samples for name, arm in s.points if name == pipeline}
        arms = sorted(found, key=lambda arm: (arm != LIVE, arm))
        return {
            "pipeline": pipeline,
            "at": [round(s.at, 1) for s in self._samples],
            "arms": [{"arm": arm, **self._columns((pipeline, arm))} for arm in arms],
        }

    def _columns(self, arm: _Arm) -> dict[str, list[float | None]]:
        points = [(s.span_s, s.points.get(arm)) for s in self._samples]
        return {
            "rows_per_s": [round(p.rows / span, 2) if p else 0.0 for span, p in points],
            "error_share": [p.errors / p.rows if p and p.rows else None for _, p in points],
            "p95_ms": [milliseconds(p.p95_s) if p and p.rows else None for _, p in points],
        }

    def rates(self, pipeline: str, count: int = 60) -> list[float]:
        """Rows a second of all arms in the last `count` samples, oldest first."""
        first = max(len(self._samples) - count, 0)
        return [
            sum(p.rows for (name, _), p in s.points.items() if name == pipeline) / s.span_s
            for s in islice(self._samples, first, None)
        ]


def arm_row(arm: str, figures: ArmFigures, span_s: float, slow_s: float | None) -> dict[str, object]:
    """An arm's row of the live table. `slow_s`: what counts as slow; None: nothing does."""
    rows = figures.rows
    slow = slower_than(figures.latency, slow_s) if slow_s is not None and figures.latency else 0
    quantiles = {
        f"p{round(q * 100)}_ms": milliseconds(quantile(figures.latency, q)) if rows else None
        for q in (0.5, 0.95, 0.99)
    }
    return {
        "arm": arm,
        "rows": rows,
        "rows_per_s": rows / span_s if span_s else 0.0,
        "errors": figures.errors,
        "error_share": figures.errors / rows if rows else None,
        "slow": slow if slow_s is not None else None,
        "slow_share": slow / rows if rows and slow_s is not None else None,
        **quantiles,
    }


def milliseconds(seconds: float) -> float | None:
    """None: beyond what the histogram can tell."""
    return round(seconds * 1000, 3) if math.isfinite(seconds) else None


def _grown(
    before: Mapping[ArmName, ArmFigures], now: Mapping[ArmName, ArmFigures]
) -> Iterator[tuple[ArmName, ArmFigures]]:
    for name, figures in now.items():
        old = before.get(name, NOTHING)
        if figures.rows > old.rows:
            times = zip_longest(figures.latency, old.latency, fillvalue=0)
            latency = tuple(count - earlier for count, earlier in times)
            yield name, ArmFigures(figures.rows - old.rows, figures.errors - old.errors, latency)
