"""Judges the newest rows of each arm by the baseline of its model: what is raised, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.analysis import Count
from headrace.drift import Baseline, Check, ConceptDrift, NumberBaseline, Verdict, figures, judge, segment_of
from services.monitoring.drift.alarms import Alarms, Change
from services.monitoring.drift.metrics import DriftMetrics
from services.monitoring.drift.ports import Followed, Rows, Series, Traffic, Version
from services.monitoring.drift.retrain.delivery import Retraining
from services.monitoring.drift.retrain.policy import Cause, Trigger
from services.monitoring.drift.settings import DriftSettings
from services.monitoring.ports import Log

# Arms whose error rates are followed.
_MOST_ARMS = 256
# In the place of what a version runs: the state is of the pipeline.
_RETRAININGS = "(retrainings)"


@dataclass(slots=True)
class Look:
    """The newest look at a series. `verdicts` empty: there were too few rows; `stored`: as of these rows."""

    series: Series
    followed: Followed
    alarms: Alarms = field(default_factory=Alarms)
    verdicts: tuple[Verdict, ...] = ()
    rows: int = 0
    stored: object = None

    @property
    def has_baseline(self) -> bool:
        return self.followed.baseline is not None


class DriftMonitor:
    """Belongs to one thread, and waits for nothing."""

    def __init__(
        self, settings: DriftSettings, metrics: DriftMetrics, retraining: Retraining, log: Log
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._retraining = retraining
        self._log = log
        self._series: dict[Series, Look] = {}
        self._concepts: dict[Version, ConceptDrift] = {}
        self._drifted: dict[Version, float] = {}

    def follow(self, wanted: Mapping[Series, Followed]) -> None:
        """Judges these from now on. Alarms and gauges end with the arm that they describe, and begin anew with another model."""
        for series in self._series.keys() - wanted.keys():
            del self._series[series]
            self._metrics.gone(series)
        for series, followed in wanted.items():
            known = self._series.get(series)
            if known is None or known.followed != followed:
                if known is not None and known.alarms.raised:
                    self._log.info("drift is told from another baseline", **_named(series))
                if known is not None:
                    self._metrics.gone(series)
                self._series[series] = Look(series, followed)
            self._metrics.baseline(series, followed.baseline is not None)

    def judged(self) -> Mapping[Series, Look]:
        """The newest look at each series that has a baseline."""
        return {series: look for series, look in self._series.items() if look.has_baseline}

    def judge(self, series: Series, rows: Rows | None, now: float) -> None:
        """Judges the newest rows of a series; None: they are those of the last time, and so are the verdicts, but alarms last.
        `now`: seconds since 1970."""
        judged = self._series.get(series)
        baseline = judged.followed.baseline if judged else None
        if judged is None or baseline is None:
            return
        if rows is not None:
            judged.verdicts, judged.rows = (), rows.count
            if rows.count >= self._settings.least_rows:
                found = figures(baseline.counted, rows.columns, rows.count)
                judged.verdicts = tuple(judge(baseline, found, self._settings.limits))
            judged.stored = rows.stored
        if judged.rows < self._settings.least_rows:
            self._metrics.looked(series, (), judged.alarms.raised, 0)
            return
        changes = judged.alarms.look(judged.verdicts, now)
        self._metrics.looked(series, judged.verdicts, judged.alarms.raised, judged.rows)
        for change, alarm in changes:
            verdict, limits = alarm.verdict, self._settings.limits
            if change is Change.RAISED and rows is not None:  # other rows alone raise one
                alarm.segment = segment_of(baseline, rows.columns, rows.tenants, verdict, limits)
            tell = self._log.info if change is Change.OVER else self._log.warning
            tell(
                f"drift: {change}",
                **_named(series),
                column=verdict.column,
                check=verdict.check.value,
                level=alarm.level.value,
                what=str(verdict),
                segment=alarm.segment,
            )
        self._consider_retraining(series, judged.alarms, now)

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

    def states(self) -> dict[Version, Any]:
        """What outlives the process, as plain values: each version's error rate, when each pipeline's retrainings were due."""
        times = {Version(pipeline, "", _RETRAININGS): t for pipeline, t in self._retraining.triggered.items()}
        return {version: concept.to_json() for version, concept in self._concepts.items()} | times

    def restore(self, states: Mapping[Version, Any]) -> None:
        """Goes on with the states that an earlier process left."""
        for version, state in states.items():
            if version.runs == _RETRAININGS:
                self._retraining.triggered[version.pipeline] = list(state)
                continue
            concept = ConceptDrift()
            try:
                concept.restore(state)
            except (ValueError, KeyError, TypeError):
                self._log.error(
                    "the reference of an error rate can't be read; it begins anew", runs=version.runs
                )
                continue
            self._concepts[version] = concept

    def looks(self, pipeline: str) -> list[Look]:
        """The newest look at each series of a pipeline."""
        return [look for series, look in self._series.items() if series.pipeline == pipeline]

    def calibrated(self, pipeline: str, revision: str, arm: str) -> str | None:
        """The column with the probability that the model of an arm gives, if its baseline says that it is calibrated."""
        baseline = self._baseline(pipeline, revision, arm)
        found = baseline.calibration if baseline else None
        return found.probability if found is not None and found.holds else None

    def ranges(self, pipeline: str, revision: str, arm: str) -> dict[str, tuple[float, float]]:
        """Far beyond what the baseline of an arm's model has of each output: by as much as that is wide, on both sides."""
        baseline = self._baseline(pipeline, revision, arm)
        found = {}
        for name, of in (baseline.columns if baseline else {}).items():
            if (
                of.role == "output"
                and isinstance(of, NumberBaseline)
                and of.low is not None
                and of.high is not None
            ):
                found[name] = (2 * of.low - of.high, 2 * of.high - of.low)
        return found

    def _baseline(self, pipeline: str, revision: str, arm: str) -> Baseline | None:
        judged = self._series.get(Series(pipeline, revision, arm))
        return judged.followed.baseline if judged else None

    def _consider_retraining(self, series: Series, alarms: Alarms, now: float) -> None:
        checks: tuple[Check, ...] = self._settings.retrain.checks
        causes = tuple(
            Cause(check.value, column, str(alarm.verdict), alarm.since)
            for (column, check), alarm in alarms.raised.items()
            if check in checks
        )
        if causes and series.traffic is Traffic.LIVE:
            self._retraining.consider(Trigger(series.pipeline, series.revision, series.arm, now, causes))


def _named(series: Series) -> dict[str, str]:
    return {"pipeline": series.pipeline, "revision": series.revision[:12], "arm": series.label}
