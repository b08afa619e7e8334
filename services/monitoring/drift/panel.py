"""Drift on a pipeline's page of the console: a bar for each column."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from headrace.drift import Check, Verdict
from headrace.drift import Level as Severity
from services.monitoring.console.facts import words
from services.monitoring.console.ports import Level, Panel, PanelRow
from services.monitoring.drift.monitor import Look

# Columns that are shown of an arm: those that differ, then those with the largest PSI.
_SHOWN = 40
_LEVELS: dict[Severity, Level] = {Severity.FINE: "good", Severity.ALERT: "watch", Severity.PAGE: "bad"}
_WORST: tuple[Level, ...] = ("bad", "watch", "good")
# The longest bar is twice the limit, so that one at its limit is half as long.
_SPAN = 2.0
_NAMES = {
    Check.DISTRIBUTION: "distribution",
    Check.NULLS: "missing values",
    Check.NON_FINITE: "values that are not finite",
    Check.OUT_OF_RANGE: "values out of range",
    Check.UNSEEN: "unseen categories",
}

Looks = Callable[[str], Sequence[Look]]


class DriftPanel:
    """A `PanelSource`."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks

    async def __call__(self, pipeline: str) -> Panel | None:
        """None: nothing was predicted since this service began."""
        looks = self._looks(pipeline)
        if not looks:
            return None
        judged = [look for look in looks if look.verdicts]
        rows = [row for look in judged for row in _rows(look, several=len(judged) > 1)]
        levels = {row.level for row in rows}
        worst: Level = next((level for level in _WORST if level in levels), "none")
        data = {"series": [_values(look) for look in looks]}
        return Panel("Drift against the model's baseline", _sentence(looks), rows, worst, data)


def _sentence(looks: Sequence[Look]) -> str:
    judged = [look for look in looks if look.verdicts]
    if not judged:
        if any(look.has_baseline for look in looks):
            return "Too few rows came lately to compare them with the baseline."
        return "The model has no baseline, so drift can't be told: headrace models baseline."
    differ = sorted({column for look in judged for column, _ in look.alarms.raised})
    rows = max(verdict.rows for look in judged for verdict in look.verdicts)
    if not differ:
        return f"The newest {words.plural(rows, 'row')} look like the data that the model learned from."
    named = ", ".join(differ[:5]) + (f" and {len(differ) - 5} more" if len(differ) > 5 else "")
    return f"{named} {'differs' if len(differ) == 1 else 'differ'} from the data that the model learned from."


def _rows(look: Look, *, several: bool) -> list[PanelRow]:
    """The distribution of each column; shares only where they are an alarm."""
    shown = [
        v for v in look.verdicts if v.check is Check.DISTRIBUTION or _level(look, v) is not Severity.FINE
    ]
    shown.sort(key=lambda v: (_level(look, v) is Severity.FINE, -v.value / (v.limit or 1.0), v.column))
    return [_row(look, verdict, several=several) for verdict in shown[:_SHOWN]]


def _row(look: Look, verdict: Verdict, *, several: bool) -> PanelRow:
    label = f"{look.series.label}: {verdict.column}" if several else verdict.column
    level = _LEVELS[_level(look, verdict)]
    alarm = look.alarms.raised.get((verdict.column, verdict.check))
    where = f"; in rows of {alarm.segment} alone" if alarm is not None and alarm.segment else ""
    if verdict.check is Check.DISTRIBUTION:
        value, share = f"PSI {verdict.value:.3f}", verdict.value / (_SPAN * verdict.limit)
        note = f"{verdict.role}; alarm over {verdict.limit:.2f}, {words.plural(verdict.rows, 'row')}{where}"
        return PanelRow(label, value, note, min(share, 1.0), level)
    named = f" ({', '.join(verdict.categories)})" if verdict.categories else ""
    note = f"{_NAMES[verdict.check]}{named}; {words.share(verdict.before)} in the baseline{where}"
    return PanelRow(label, words.share(verdict.value), note, min(verdict.value, 1.0), level)


def _level(look: Look, verdict: Verdict) -> Severity:
    """As its alarm says, which lasts for a moment after the last bad look."""
    alarm = look.alarms.raised.get((verdict.column, verdict.check))
    return alarm.level if alarm is not None else Severity.FINE


def _values(look: Look) -> dict[str, Any]:
    # A limit is infinite where there are too few rows for any alarm; JSON has no such number.
    columns = [
        asdict(v) | {"level": _level(look, v), "limit": v.limit if math.isfinite(v.limit) else None}
        for v in look.verdicts
    ]
    series = look.series
    return {
        "arm": series.label,
        "revision": series.revision,
        "baseline": look.has_baseline,
        "columns": columns,
    }
