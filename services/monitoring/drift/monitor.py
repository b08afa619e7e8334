"""Counts rows by series and judges the newest of them: the port that whoever has prediction events feeds."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace.analysis import Count
from headrace.drift import Baseline, Check, ConceptDrift, NumberBaseline, Verdict, judge
from headrace.drift.signature import element_names
from headrace.sketches import Layout, Sketch, Values
from services.monitoring.drift.alarms import Alarms, Change
from services.monitoring.drift.metrics import DriftMetrics
from services.monitoring.drift.ports import Series, Traffic, Version
from services.monitoring.drift.retrain.delivery import Retraining
from services.monitoring.drift.retrain.policy import Cause, Trigger
from services.monitoring.drift.settings import DriftSettings
from services.monitoring.drift.windows import Ended, Windows
from services.monitoring.ports import Log

# Batches of a series that wait until its baseline was looked for; a look takes milliseconds.
_MOST_HELD = 64
# Arms whose error rates are followed.
_MOST_ARMS = 256

Columns = Mapping[str, Values | None]


@dataclass(slots=True)
class _Counted:
    """What is known of a series. `adopted`: its baseline was looked for; until then batches wait in `held`. `windows` and
    `baseline` None: it has none, and nothing is counted."""

    adopted: bool = False
    windows: Windows | None = None
    baseline: Baseline | None = None
    alarms: Alarms = field(default_factory=Alarms)
    # Of the newest look; empty: there were too few rows.
    verdicts: tuple[Verdict, ...] = ()
    # Columns that were there once: a batch without one has only nulls in it.
    seen: set[str] = field(default_factory=set)
    held: deque[tuple[Columns, int, float]] = field(default_factory=deque)


class Look(NamedTuple):
    """What the newest look at a series found. `verdicts`: empty: there were too few rows."""

    series: Series
    has_baseline: bool
    verdicts: tuple[Verdict, ...]
    alarms: Alarms


class DriftMonitor:
    """`observe` takes batches, `look` judges. Neither waits for anything; both belong to one thread."""

    def __init__(
        self, settings: DriftSettings, metrics: DriftMetrics, retraining: Retraining, log: Log
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._retraining = retraining
        self._log = log
        # The series that was silent for longest is first.
        self._series: OrderedDict[Series, _Counted] = OrderedDict()
        self._concepts: dict[Version, ConceptDrift] = {}
        self._drifted: dict[Version, float] = {}

    def observe(self, series: Series, columns: Columns, now: float) -> None:
        """Takes a batch of rows: inputs, feature values and outputs by name. `now`: when it was answered, seconds since 1970.

        Values are arrays (masked: nulls; two dimensions: elements of a tensor) or lists with None. A batch that can't be
        counted is passed over, counted and logged.
        """
        rows = len(next((v for v in columns.values() if v is not None), ()))
        if not rows:
            return
        counted = self._of(series)
        self._metrics.counting.observed(series, rows)
        if not counted.adopted:
            if len(counted.held) < _MOST_HELD:
                counted.held.append((columns, rows, now))
            else:
                self._metrics.counting.refused("waiting")
            return
        self._count(series, counted, columns, rows, now)

    def left_out(self, rows: int) -> None:
        """So many rows were not counted, as there were more than are needed to judge."""
        self._metrics.counting.left_out(rows)

    def waiting(self) -> list[Series]:
        """All series, those first whose baseline was never looked for."""
        return sorted(self._series, key=lambda s: self._series[s].adopted)

    def adopt(
        self, series: Series, baseline: Baseline | None, kept: Sequence[Ended] = (), now: float = 0.0
    ) -> None:
        """Says what a series is judged against from now on; None: it has no baseline. A changed one begins its windows anew.

        `kept`: windows with its layout that an earlier process had.
        """
        counted = self._series.get(series)
        if counted is None:
            return
        self._metrics.baseline(series, baseline is not None)
        before, counted.baseline = counted.baseline, baseline
        layouts = [found.layout.digest if found is not None else "" for found in (before, baseline)]
        if counted.adopted and layouts[0] == layouts[1]:
            return
        if counted.adopted:
            self._log.info("drift is told from another baseline", **_named(series))
            self._forget_alarms(series, counted)
        held, counted.held = counted.held, deque()
        counted.adopted, counted.windows = True, None
        if baseline is not None:
            counted.windows = Windows(baseline.layout)
            counted.windows.resume(kept, now)
        for columns, rows, answered in held:
            self._count(series, counted, columns, rows, answered)

    def look(self, now: float) -> None:
        """Judges each series whose newest windows have rows enough."""
        for series in list(self._series):
            self.look_at(series, now)

    def look_at(self, series: Series, now: float) -> None:
        """Judges one series."""
        counted = self._series.get(series)
        if counted is not None and counted.windows is not None and counted.baseline is not None:
            counted.windows.end(now)
            self._judge(series, counted, counted.baseline, now)

    def errors(self, counts: Mapping[Version, Count], now: float) -> None:
        """Takes the cumulative counts of judged predictions of each version."""
        for key, count in list(counts.items()):
            if key not in self._concepts and len(self._concepts) >= _MOST_ARMS:
                gone = next(iter(self._concepts))
                del self._concepts[gone]
                self._drifted.pop(gone, None)
            found = self._concepts.setdefault(key, ConceptDrift()).observe(count)
            pipeline, arm, runs = key
            self._metrics.errs(pipeline, arm, found.drifted, found.rate)
            if not found.drifted:
                self._drifted.pop(key, None)
                continue
            text = (
                f"{arm}, {runs}, errs in {found.rate:.2%} of {found.rows} predictions, "
                f"at first in at most {found.reference:.2%}"
            )
            if key not in self._drifted:
                self._log.warning("concept drift", pipeline=pipeline, arm=arm, runs=runs, what=text)
            since = self._drifted.setdefault(key, now)
            if self._settings.retrain.concept:
                cause = Cause("concept", "", text, since)
                self._retraining.consider(Trigger(pipeline, "", arm, now, (cause,)))

    def unsaved(self, *, all_of_it: bool = False) -> list[tuple[Series, Layout, list[Ended]]]:
        """Windows that ended since the last call. `all_of_it`: those that are open end now."""
        found = []
        for series, counted in self._series.items():
            if counted.windows is None:
                continue
            if all_of_it:
                counted.windows.end(math.inf)
            if ended := counted.windows.take_ended():
                found.append((series, counted.windows.layout, ended))
        return found

    def concepts(self) -> dict[Version, dict[str, Any]]:
        """The state of each version's error rate, as plain values."""
        return {version: concept.to_json() for version, concept in self._concepts.items()}

    def restore_concepts(self, states: Mapping[Version, Any]) -> None:
        """Goes on with the states that an earlier process left."""
        for version, state in states.items():
            concept = ConceptDrift()
            try:
                concept.restore(state)
            except (ValueError, KeyError, TypeError):
                self._log.error(
                    "the reference of an error rate can't be read; it begins anew", runs=version.runs
                )
                continue
            self._concepts[version] = concept

    def newest(self, series: Series) -> Sketch | None:
        """The newest rows of a series, as they are judged; None: it is not counted."""
        counted = self._series.get(series)
        if counted is None or counted.windows is None:
            return None
        return counted.windows.newest(self._settings.rows)

    def windows(self, series: Series) -> Windows | None:
        """All windows of a series, for whoever shows them."""
        counted = self._series.get(series)
        return counted.windows if counted else None

    def looks(self, pipeline: str) -> list[Look]:
        """The newest look at each series of a pipeline, with the newest rows last."""
        return [
            Look(series, counted.baseline is not None, counted.verdicts, counted.alarms)
            for series, counted in self._series.items()
            if series.pipeline == pipeline
        ]

    def calibrated(self, pipeline: str, revision: str, arm: str) -> str | None:
        """The column with the probability that the model of an arm gives, if its baseline says that it is calibrated."""
        counted = self._series.get(Series(pipeline, revision, arm))
        found = counted.baseline.calibration if counted and counted.baseline else None
        return found.probability if found is not None and found.holds else None

    def ranges(self, pipeline: str, revision: str, arm: str) -> dict[str, tuple[float, float]]:
        """Far beyond what the baseline of an arm's model has of each output: by as much as that is wide, on both sides."""
        counted = self._series.get(Series(pipeline, revision, arm))
        columns = counted.baseline.columns if counted and counted.baseline else {}
        found = {}
        for name, of in columns.items():
            if (
                of.role == "output"
                and isinstance(of, NumberBaseline)
                and of.low is not None
                and of.high is not None
            ):
                found[name] = (2 * of.low - of.high, 2 * of.high - of.low)
        return found

    def _of(self, series: Series) -> _Counted:
        counted = self._series.get(series)
        if counted is None:
            while len(self._series) >= self._settings.series:
                gone, _ = self._series.popitem(last=False)
                self._metrics.counting.refused("series")
                self._drop_gauges(gone)
            counted = self._series[series] = _Counted()
            self._metrics.counting.count_series(len(self._series))
        self._series.move_to_end(series)
        return counted

    def _drop_gauges(self, gone: Series) -> None:
        same = any((s.pipeline, s.label) == (gone.pipeline, gone.label) for s in self._series)
        if not same:
            self._metrics.gone(gone)

    def _count(self, series: Series, counted: _Counted, columns: Columns, rows: int, now: float) -> None:
        if counted.windows is None or counted.baseline is None:
            return
        flat = _flat(columns, counted.baseline)
        missing = counted.seen - flat.keys()
        try:
            counted.windows.at(now).update({**flat, **dict.fromkeys(missing)}, rows)
        except (ValueError, TypeError) as error:
            self._metrics.counting.refused("malformed")
            self._log.warning("rows could not be counted for drift", **_named(series), why=str(error)[:200])
            return
        counted.seen |= flat.keys()

    def _judge(self, series: Series, counted: _Counted, baseline: Baseline, now: float) -> None:
        sketch = self.newest(series)
        counted.verdicts = ()
        if sketch is None or sketch.rows < self._settings.least_rows:
            self._metrics.looked(series, (), counted.alarms.raised, 0)
            return
        verdicts = judge(baseline, sketch, self._settings.limits)
        counted.verdicts = tuple(verdicts)
        changes = counted.alarms.look(verdicts, now)
        self._metrics.looked(series, verdicts, counted.alarms.raised, sketch.rows)
        for change, alarm in changes:
            self._metrics.changed(series, change, alarm)
            verdict = alarm.verdict
            tell = self._log.info if change is Change.OVER else self._log.warning
            tell(
                f"drift: {change}",
                **_named(series),
                column=verdict.column,
                check=verdict.check.value,
                level=alarm.level.value,
                what=str(verdict),
            )
        self._consider_retraining(series, counted.alarms, now)

    def _consider_retraining(self, series: Series, alarms: Alarms, now: float) -> None:
        checks: tuple[Check, ...] = self._settings.retrain.checks
        causes = tuple(
            Cause(check.value, column, str(alarm.verdict), alarm.since)
            for (column, check), alarm in alarms.raised.items()
            if check in checks
        )
        if causes and series.traffic is Traffic.LIVE:
            self._retraining.consider(Trigger(series.pipeline, series.revision, series.arm, now, causes))

    def _forget_alarms(self, series: Series, counted: _Counted) -> None:
        counted.alarms, counted.verdicts = Alarms(), ()
        counted.seen = set()
        self._metrics.gone(series)


def _named(series: Series) -> dict[str, str]:
    return {"pipeline": series.pipeline, "revision": series.revision[:12], "arm": series.label}


def _flat(columns: Columns, baseline: Baseline) -> dict[str, Values | None]:
    """Columns of the baseline; arrays of two dimensions as the columns of their elements."""
    layout = baseline.layout
    flat: dict[str, Values | None] = {}
    for name, values in columns.items():
        if getattr(values, "ndim", 1) < 2 or values is None:
            if name in layout:
                flat[name] = values
            continue
        elements = values.reshape(len(values), -1)  # type: ignore[union-attr]  # it has dimensions, so it is an array
        names = baseline.tensors.get(name) or element_names(name, elements.shape[1])
        flat |= {n: elements[:, i] for i, n in enumerate(names[: elements.shape[1]]) if n in layout}
    return flat
