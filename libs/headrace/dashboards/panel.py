"""A panel and a dashboard, as we describe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "gauge", "table", "heatmap", "text"]


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries`: (PromQL, legend) each; `unit`: as Grafana names units; `why`: what it tells, and its limits. `pending`: a metric
    that is not in this version yet. `recorded`: its series come from an exporter of others."""

    title: str
    why: str
    queries: tuple[tuple[str, str], ...] = ()
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 12
    # Values from which it is yellow, and red; None: no colours. A descending pair: low values are bad.
    limits: tuple[float, float] | None = None
    pending: str = ""
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`name`: of the file; `variables`: name → value that a person may change."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()


def one(expression: str, legend: str = "") -> tuple[tuple[str, str], ...]:
    """The only query of a panel."""
    return ((expression, legend),)


def quantiles(histogram: str, by: str, legend: str, which: tuple[float, ...]) -> tuple[tuple[str, str], ...]:
    """A query for each quantile of a histogram. `by`: labels, with commas."""
    labels = f"le, {by}" if by else "le"
    return tuple(
        (
            f"histogram_quantile({q:g}, sum by ({labels}) (rate({histogram}[$__rate_interval])))",
            f"{legend} p{q * 100:g}".strip(),
        )
        for q in which
    )
