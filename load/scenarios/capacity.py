"""`capacity`: the tables of load/CAPACITY.md: how many processes and cores usual loads need, what they cost, and whose CPU it is.

The figures are load/capacity.json, which `python -m load scaling --rows 1,64 --conc 8,64 --runs 2 --keep FILE` made. For
a load of one's own: `headrace plan --measurement load/capacity.json`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

from headrace.cost import Prices, of_file, plan
from headrace.cost.prices import GB, Rates

FIGURES = Path(__file__).parents[1] / "capacity.json"
_RATES = (1_000, 10_000, 100_000)
_MIB = 1 << 20


def run(options: argparse.Namespace) -> None:
    """Prints the tables. Raises PlanError: the figures lack something."""
    print("\n".join([*_usual(options), "", *_by_service(options.figures)]))


def _usual(options: argparse.Namespace) -> Iterator[str]:
    yield "| requests/s | rows each | shape | processes | cores | memory GiB | a month | a million requests |"
    yield "|--:|--:|---|--:|--:|--:|--:|--:|"
    prices = Prices(prices=Rates(core_hour=options.price, memory_gb_hour=0))
    for rate, rows, shape in itertools.product(_RATES, (1, 64), ("apart", "together")):
        found = plan(of_file(options.figures, shape), prices, rate, rows, None, options.headroom)
        yield (
            f"| {rate:,} | {rows} | {shape} | {found.processes} | {found.cores:.1f} "
            f"| {found.memory_gb * GB / _MIB / 1024:.1f} | {found.per_month:,.0f} | {found.per_million:.4f} |"
        )


def _by_service(figures: Path) -> Iterator[str]:
    """Whose CPU it is, apart: who takes most comes first."""
    measured = of_file(figures, "apart")
    one, many = ({name: shape.us(rows) for name, shape in measured.shapes.items()} for rows in (1, 64))
    yield "| service | µs of a request of 1 row | part | of 64 rows | part | memory MiB |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name in sorted(one, key=lambda name: -one[name]):
        yield (
            f"| {name} | {one[name]:.0f} | {one[name] / sum(one.values()):.0%} | {many[name]:.0f} "
            f"| {many[name] / sum(many.values()):.0%} | {measured.memory_gb[name] * GB / _MIB:.0f} |"
        )
