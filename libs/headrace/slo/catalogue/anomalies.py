"""Alerts for noisy signals, which have no fixed limit: now is compared with the same time of the last three weeks.

The baseline is the median of three averages over four hours around the same time, one, two and three weeks ago, as in GitLab's
"anomaly detection using Prometheus". It is an alarm if now is away from it by more than half of it *and* by more than three times
the spread of these weeks, and if there were enough events. In the first weeks of an installation nothing is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.slo.alert import TICKET, Alert

_HALF_HOUR = 1800.0
# Two hours later than each week: the middle of the four hours that are averaged.
_WEEKS = ("166h", "334h", "502h")
_SPREADS = 3


@dataclass(frozen=True, slots=True)
class Signal:
    """`expr`: events per second, by labels that are few. `least`: so many events within 30 minutes, or nothing is said; of a
    signal that may fall, that many were usual. `rises_only`: less of it is no alarm."""

    name: str
    expr: str
    least: int
    rises_only: bool = True

    @property
    def record(self) -> str:
        """Series of the signal."""
        return f"headrace_signal:{self.name}"

    @property
    def baseline(self) -> str:
        """Series of what is usual now."""
        return f"headrace_signal:{self.name}_usual"

    @property
    def spread(self) -> str:
        """Series of how much the weeks differ."""
        return f"headrace_signal:{self.name}_spread"


SIGNALS = (
    Signal(
        "requests", "sum by (pipeline) (rate(headrace_ingress_requests_total[30m]))", 200, rises_only=False
    ),
    Signal(
        "caller_errors",
        'sum by (pipeline) (rate(headrace_ingress_requests_total{fault="caller"}[30m]))',
        50,
    ),
    Signal("security_events", "sum by (kind) (rate(headrace_ingress_security_events_total[30m]))", 20),
)


def records() -> list[dict[str, Any]]:
    """The signals, and what is usual for each."""
    found = []
    for signal in SIGNALS:
        weeks = [f"avg_over_time({signal.record}[4h] offset {week})" for week in _WEEKS]
        # A union by a label of their own: `quantile` and `stddev` aggregate over series.
        union = " or ".join(f'label_replace({w}, "week", "{n}", "", "")' for n, w in enumerate(weeks, 1))
        found += [
            {"record": signal.record, "expr": signal.expr},
            {"record": signal.baseline, "expr": f"quantile without (week) (0.5, {union})"},
            {"record": signal.spread, "expr": f"stddev without (week) ({union})"},
        ]
    return found


def _expr(signal: Signal) -> str:
    away = f"{signal.record} - {signal.baseline}"
    if not signal.rises_only:
        away = f"abs({away})"
    most = f"(0.5 * {signal.baseline} > {_SPREADS} * {signal.spread} or {_SPREADS} * {signal.spread})"
    events = (
        signal.record if signal.rises_only else f"({signal.record} > {signal.baseline} or {signal.baseline})"
    )
    return f"{away} > {most} and {events} * {_HALF_HOUR:g} >= {signal.least}"


ANOMALIES = tuple(
    Alert(f"Headrace{name}Anomaly", TICKET, _expr(signal), 600, summary, step, failure=failure)
    for signal, name, summary, step, failure in zip(
        SIGNALS,
        ("Traffic", "CallerErrors", "SecurityEvents"),
        (
            "{{ $labels.pipeline }} gets far more or fewer requests than at this time of the last weeks",
            "callers of {{ $labels.pipeline }} make far more mistakes than at this time of the last weeks",
            "far more security events ({{ $labels.kind }}) than at this time of the last weeks",
        ),
        ("headrace status", "headrace logs ingress", "headrace security"),
        ("F7", "F6", "F6"),
        strict=True,
    )
)
