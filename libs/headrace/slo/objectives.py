"""The objectives of pipelines, as their documents have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace.pipeline import Pipeline, Problem
from headrace.slo.levels import LEVELS, least_target

AVAILABILITY, LATENCY = "availability", "latency"
# Of a pipeline whose document has no objectives.
DEFAULT_AVAILABILITY = 0.999
_PERIOD_S = 30 * 86_400.0
_EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective of one pipeline: the share `target` of its requests is good, over `period_s` seconds; `slow_ms`: in time."""

    pipeline: str
    objective: str
    target: float
    period_s: float
    slow_ms: int = 0

    @property
    def budget(self) -> float:
        """Share of the requests that may be bad."""
        return 1 - self.target


def slos(pipeline: Pipeline) -> Iterator[Slo]:
    """All objectives of a document."""
    promised = pipeline.objectives
    if promised is None:
        yield Slo(pipeline.name, AVAILABILITY, DEFAULT_AVAILABILITY, _PERIOD_S)
        return
    period_s = promised.window_us / 1e6
    if promised.availability is not None:
        yield Slo(pipeline.name, AVAILABILITY, promised.availability, period_s)
    if promised.latency is not None:
        yield Slo(pipeline.name, LATENCY, promised.latency.p, period_s, promised.latency.ms)


def problems(pipeline: Pipeline) -> list[Problem]:
    """Objectives for which a level could never alert: with `factor × budget` above 1 not even a total outage is fast enough."""
    keys = {AVAILABILITY: "objectives.availability", LATENCY: "objectives.latency.p"}
    return [
        pipeline.source.problem(keys[slo.objective], _never(slo))
        for slo in slos(pipeline)
        if max(level.factor for level in LEVELS) * slo.budget > 1 + _EPSILON
    ]


def _never(slo: Slo) -> str:
    worst = max(level.factor for level in LEVELS)
    return (
        f"with {slo.target:g}, the alert at {worst:g} times the error budget of {slo.budget:.4g} could never fire "
        f"({worst:g} × {slo.budget:.4g} > 1): promise at least {least_target():.4f}"
        + (", or more milliseconds for a larger share" if slo.objective == LATENCY else "")
    )
