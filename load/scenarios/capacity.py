"""`capacity`: how many processes and cores a load needs, and what they cost, from what was measured.

    python -m load capacity --rate 10000 --rows 1 --shape apart      (no --rate: the tables of load/CAPACITY.md)

The figures are load/capacity.json, which `python -m load scaling rows --rows 1,64 --conc 8,64 --runs 2 --keep FILE` made:
CPU per request at full batches. Between 1 and 64 rows it is taken to grow evenly. load/CAPACITY.md says what that means.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

FIGURES = Path(__file__).parents[1] / "capacity.json"
_HOURS_A_MONTH = 730
_MICRO = 1e6
_RATES = (1_000, 10_000, 100_000)
Figures: TypeAlias = "Sequence[Mapping[str, Any]]"


@dataclass(frozen=True, slots=True)
class Need:
    """What one service needs: CPU µs per request, processes, cores, memory in MiB."""

    us: float
    processes: int
    cores: float
    memory_mib: float


def run(options: argparse.Namespace) -> None:
    """Prints a line for each service, the sum, and the price; without a rate, what usual rates need."""
    kept = json.loads(options.figures.read_text())
    if options.rate is None:
        print("\n".join([*_usual(kept, options.headroom, options.price), "", *_by_service(kept)]))
        return
    needs = plan(kept, options.shape, options.rate, options.rows, options.headroom)
    print(
        f"{options.rate:g} requests/s of {options.rows} rows, {options.shape}, at {options.headroom:.0%} of the peak\n"
    )
    print("| service | CPU µs/request | processes | cores | memory MiB |\n|---|--:|--:|--:|--:|")
    for name, need in needs.items():
        print(_line(name, need))
    total = together(list(needs.values()))
    print(_line("**all**", total))
    million = per_million(total.cores, options.rate, options.price)
    print(
        f"\nat {options.price:g} a core-hour: {monthly(total.cores, options.price):.0f} a month, "
        f"{million:.4f} a million requests"
    )


def _usual(kept: Figures, headroom: float, price: float) -> Iterator[str]:
    yield "| requests/s | rows each | shape | processes | cores | memory GiB | a month | a million requests |"
    yield "|--:|--:|---|--:|--:|--:|--:|--:|"
    for rate, rows, shape in itertools.product(_RATES, (1, 64), ("apart", "together")):
        total = together(list(plan(kept, shape, rate, rows, headroom).values()))
        yield (
            f"| {rate:,} | {rows} | {shape} | {total.processes} | {total.cores:.1f} | {total.memory_mib / 1024:.1f} "
            f"| {monthly(total.cores, price):,.0f} | {per_million(total.cores, rate, price):.4f} |"
        )


def _by_service(kept: Figures) -> Iterator[str]:
    """Whose CPU it is, apart: who takes most comes first."""
    few, many = _measured(kept, "apart", 1), _measured(kept, "apart", 64)
    one, all_ = few["services_us"], many["services_us"]
    yield "| service | µs of a request of 1 row | part | of 64 rows | part | memory MiB |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name in sorted(one, key=lambda name: -one[name]):
        yield (
            f"| {name} | {one[name]:.0f} | {one[name] / sum(one.values()):.0%} | {all_[name]:.0f} "
            f"| {all_[name] / sum(all_.values()):.0%} | {many['memory_mib'][name]} |"
        )


def _line(name: str, need: Need) -> str:
    return f"| {name} | {need.us:.0f} | {need.processes} | {need.cores:.1f} | {need.memory_mib:.0f} |"


def together(needs: Sequence[Need]) -> Need:
    """The sum."""
    return Need(
        sum(n.us for n in needs),
        sum(n.processes for n in needs),
        sum(n.cores for n in needs),
        sum(n.memory_mib for n in needs),
    )


def plan(kept: Figures, shape: str, rate: float, rows: int, headroom: float) -> dict[str, Need]:
    """What each service needs. Raises SystemExit if it was not measured."""
    few, many = _measured(kept, shape, 1), _measured(kept, shape, 64)
    needs = {}
    for name, one in few["services_us"].items():
        us = one + (many["services_us"][name] - one) * (rows - 1) / 63
        cores = rate * us / _MICRO / headroom
        # A process has one thread of Python; Envoy's and the models' work beside it is in the figures, so that this is
        # one process too many rather than one too few.
        processes = max(math.ceil(cores), 1)
        needs[name] = Need(us, processes, cores, processes * many["memory_mib"][name])
    return needs


def _measured(kept: Figures, shape: str, rows: int) -> Mapping[str, Any]:
    """At the concurrency that cost least: batches are full there, and queues not long."""
    fit = [line for line in kept if line["shape"] == shape and line["rows"] == rows]
    if not fit:
        raise SystemExit(f"no figures of {rows} rows a request, {shape}: see python -m load capacity --help")
    return min(fit, key=lambda line: sum(line["services_us"].values()))


def monthly(cores: float, price: float) -> float:
    """Price of so many cores, always on, for a month."""
    return cores * price * _HOURS_A_MONTH


def per_million(cores: float, rate: float, price: float) -> float:
    """Price of a million requests if the rate is what the cores were chosen for."""
    return cores * price / 3600 / rate * _MICRO
