"""Recording rules and alerts of one promise: error ratios of all windows, budget left, and an alert for each level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.slo.levels import Level, windows
from headrace.slo.objectives import AVAILABILITY, Slo
from headrace.slo.promql import duration, label

NAMES = {"availability": "HeadraceAvailabilityBurn", "latency": "HeadraceLatencyBurn"}


def records(slo: Slo, levels: Sequence[Level]) -> list[dict[str, Any]]:
    """Error ratio of each window, bad events of each long window, target, and how many times the even pace now."""
    longs = {level.long_s for level in levels}
    shortest = min(level.short_s for level in levels)
    found = []
    for window in windows(levels):
        ratio = f"{slo.bad(window)} / ({slo.total(window)} > 0)"
        found.append(_record(slo, _ratio(window), ratio))
        if window in longs:
            found.append(_record(slo, _bad(window), slo.bad(window)))
    found.append(_record(slo, "headrace_slo:target", f"vector({slo.target:.10g})"))
    burn = f"{_ratio(shortest)}{_labels(slo)} / {slo.budget:.10g}"
    found.append(_record(slo, "headrace_slo:burn", f"sum({burn})"))
    return found


def budget_record(slo: Slo) -> dict[str, Any]:
    """How much of the budget is left over the whole period: 1 is all, 0 none, below 0 the promise is broken."""
    spent = f"({slo.bad(slo.period_s)} / ({slo.total(slo.period_s)} > 0)) / {slo.budget:.10g}"
    return _record(slo, "headrace_slo:budget_left", f"1 - {spent}")


def alerts(slo: Slo, levels: Sequence[Level], min_bad: int) -> list[dict[str, Any]]:
    """One alert per level. `speed` orders them: while a faster one fires, the slower ones of the promise are not sent."""
    return [_alert(slo, level, speed, min_bad) for speed, level in enumerate(levels, 1)]


def _alert(slo: Slo, level: Level, speed: int, min_bad: int) -> dict[str, Any]:
    limit = f"{level.factor * slo.budget:.10g}"
    labels = _labels(slo)
    expr = (
        f"{_ratio(level.long_s)}{labels} > {limit} and {_ratio(level.short_s)}{labels} > {limit} "
        f"and {_bad(level.long_s)}{labels} >= {min_bad}"
    )
    what = "failed by our fault" if slo.objective == AVAILABILITY else f"took more than {slo.slow_ms} ms"
    return {
        "alert": NAMES[slo.objective],
        "expr": expr,
        "labels": {"severity": level.severity, "level": level.name, "speed": str(speed)},
        "annotations": {
            "summary": f"{slo.pipeline}: {{{{ $value | humanizePercentage }}}} of the requests of the last "
            f"{duration(level.long_s)} {what}; promised: at most {slo.budget * 100:.4g} %",
            "description": f"The error budget burns at {level.name} or faster; when this began, "
            f"{level.share(slo.period_s) * 100:.2g} % of the budget of {duration(slo.period_s)} was used up.",
            "next_step": "headrace slo status",
        },
    }


def _record(slo: Slo, name: str, expr: str) -> dict[str, Any]:
    return {"record": name, "expr": expr, "labels": {"pipeline": slo.pipeline, "objective": slo.objective}}


def _ratio(window_s: float) -> str:
    return f"headrace_slo:error_ratio_{duration(window_s)}"


def _bad(window_s: float) -> str:
    return f"headrace_slo:bad_{duration(window_s)}"


def _labels(slo: Slo) -> str:
    return f"{{pipeline={label(slo.pipeline)},objective={label(slo.objective)}}}"
