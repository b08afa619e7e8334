"""How each objective stands now, as Prometheus knows it, or monitoring, which answers the same three queries."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.slo.servers import PrometheusApi

TARGET, BURN = "headrace_slo:target", "headrace_slo:burn_5m"
LEFT = "min by (pipeline, objective) (headrace_objective_budget_left)"
_BURNING = 1.0


@dataclass(frozen=True, slots=True)
class Standing:
    """`error_ratio`: of the last 5 minutes; `budget_left`: share of the period's, below 0 if the promise is broken; `burn`:
    times the pace that would just use it up. None: there were no requests, or the rules are not read."""

    pipeline: str
    objective: str
    target: float
    error_ratio: float | None
    budget_left: float | None
    burn: float | None

    @property
    def state(self) -> str:
        """kept, burning, broken, or "no data"."""
        if self.budget_left is None and self.burn is None:
            return "no data"
        if self.budget_left is not None and self.budget_left < 0:
            return "broken"
        return "burning" if self.burn is not None and self.burn > _BURNING else "kept"


def standings(prometheus: PrometheusApi) -> list[Standing]:
    """How all objectives stand, by their names. Raises ServerError."""
    targets, burns, left = (
        {(s.labels["pipeline"], s.labels["objective"]): s.value for s in prometheus.query(asked)}
        for asked in (TARGET, BURN, LEFT)
    )
    found = []
    for key, target in sorted(targets.items()):
        burn = burns.get(key)
        ratio = None if burn is None else burn * (1 - target)
        found.append(Standing(*key, target, ratio, left.get(key), burn))
    return found
