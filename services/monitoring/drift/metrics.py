"""The instruments of drift. Labels are pipelines, arms, and columns of signed baselines: callers choose none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from headrace.drift import Check, Level, Verdict
from services.monitoring.drift.alarms import Alarm
from services.monitoring.drift.ports import Series

# Columns of one arm that have gauges; further ones are judged and logged, and counted in `alarms`.
MOST_COLUMNS = 256
_LEVELS = {Level.FINE: 0, Level.ALERT: 1, Level.PAGE: 2}
_ARM = ("pipeline", "arm")
_COLUMN = (*_ARM, "column")
_CHECK = (*_COLUMN, "check")


class DriftMetrics:
    """Gauges of the newest look, counters of alarms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self.unusable = Counter(
            "headrace_drift_unusable_baselines", "Baselines that can't be used.", registry=registry
        )
        self._psi = gauge("headrace_drift_psi", "PSI of a column against its baseline.", _COLUMN)
        self._shares = gauge(
            "headrace_drift_share",
            "Share of the rows that are null, not finite, out of range or of an unseen category.",
            _CHECK,
        )
        self._level = gauge(
            "headrace_drift_level", "Alarms of a column: 1 alert, 2 page; 0 once it is over.", _CHECK
        )
        self._judged = gauge(
            "headrace_drift_judged_rows", "Rows of the newest look; 0: too few to judge.", _ARM
        )
        self._baseline = gauge("headrace_drift_baseline", "1 if the arm's model has a usable baseline.", _ARM)
        self._concept = gauge("headrace_drift_concept", "1 if an arm errs more than it did at first.", _ARM)
        self._errors = gauge(
            "headrace_drift_error_rate",
            "Share of judged predictions that were wrong, in the period that tells most.",
            _ARM,
        )
        # (pipeline, arm) → column → checks.
        self._gauged: dict[tuple[str, str], dict[str, set[Check]]] = {}

    def baseline(self, series: Series, usable: bool) -> None:
        self._baseline.labels(series.pipeline, series.label).set(usable)

    def looked(
        self,
        series: Series,
        verdicts: Iterable[Verdict],
        raised: Mapping[tuple[str, Check], Alarm],
        rows: int,
    ) -> None:
        """After each look at a series. `raised`: its alarms."""
        self._judged.labels(series.pipeline, series.label).set(rows)
        gauged = self._gauged.setdefault((series.pipeline, series.label), {})
        for verdict in verdicts:
            if verdict.column not in gauged and len(gauged) >= MOST_COLUMNS:
                continue
            gauged.setdefault(verdict.column, set()).add(verdict.check)
            labels = (series.pipeline, series.label, verdict.column)
            if verdict.check is Check.DISTRIBUTION:
                self._psi.labels(*labels).set(verdict.value)
            else:
                self._shares.labels(*labels, verdict.check.value).set(verdict.value)
            alarm = raised.get((verdict.column, verdict.check))
            self._level.labels(*labels, verdict.check.value).set(_LEVELS[alarm.level] if alarm else 0)

    def errs(self, pipeline: str, arm: str, drifted: bool, rate: float) -> None:
        self._concept.labels(pipeline, arm).set(drifted)
        self._errors.labels(pipeline, arm).set(rate)

    def gone(self, series: Series) -> None:
        """This series is not judged any more."""
        arm = (series.pipeline, series.label)
        for column, checks in self._gauged.pop(arm, {}).items():
            for check in checks:
                if check is Check.DISTRIBUTION:
                    self._psi.remove(*arm, column)
                else:
                    self._shares.remove(*arm, column, check.value)
                self._level.remove(*arm, column, check.value)
        # Set only so that there is something to remove.
        for gauge in (self._judged, self._baseline):
            gauge.labels(*arm).set(0)
            gauge.remove(*arm)
