"""How each promise stands now, as Prometheus knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from headrace.slo.objectives import Slo
from headrace.slo.servers import PrometheusApi

_BURNING = 1.0


@dataclass(frozen=True, slots=True)
class Standing:
    """`error_ratio`: of the shortest window; `budget_left`: share of the period's, below 0 if the promise is broken; `burn`:
    times the pace that would just use it up. None: Prometheus has no value, as there were no requests or it does not read the
    rules."""

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

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "state": self.state}


def standings(promised: Iterable[Slo], prometheus: PrometheusApi) -> list[Standing]:
    """How all promises stand. Raises ServerError."""
    burns, left = (
        {(s.labels.get("pipeline"), s.labels.get("objective")): s.value for s in prometheus.query(series)}
        for series in ("headrace_slo:burn", "headrace_slo:budget_left")
    )
    found = []
    for slo in promised:
        key = slo.pipeline, slo.objective
        burn = burns.get(key)
        ratio = None if burn is None else burn * slo.budget
        found.append(Standing(*key, slo.target, ratio, left.get(key), burn))
    return found
