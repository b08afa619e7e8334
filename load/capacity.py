"""`capacity`: how many processes and cores a load needs, and what they cost, from what was measured.

    python -m load capacity --rate 10000 --rows 1 --shape apart

The figures are load/capacity.json, kept by `python -m load scaling rows --rows 1,64 --conc 64 --keep load/capacity.json`:
CPU per request at full batches. Between 1 and 64 rows it is taken to grow evenly. load/CAPACITY.md says what that means.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).with_name("capacity.json")
_HOURS_A_MONTH = 730
_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class Need:
    """Of one service: CPU per request, processes, cores that they must find, their memory in MiB."""

    us: float
    processes: int
    cores: float
    memory_mib: float


def run(options: argparse.Namespace) -> None:
    """Prints a line for each service, the sum, and the price."""
    kept = json.loads(options.figures.read_text())
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


def plan(
    kept: Sequence[Mapping[str, Any]], shape: str, rate: float, rows: int, headroom: float
) -> dict[str, Need]:
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


def _measured(kept: Sequence[Mapping[str, Any]], shape: str, rows: int) -> Mapping[str, Any]:
    """At the highest concurrency that was kept: batches are full there."""
    fit = [line for line in kept if line["shape"] == shape and line["rows"] == rows]
    if not fit:
        raise SystemExit(f"no figures of {rows} rows a request, {shape}: see python -m load capacity --help")
    return max(fit, key=lambda line: int(line["at_once"]))


def monthly(cores: float, price: float) -> float:
    """Price of so many cores, always on, for a month."""
    return cores * price * _HOURS_A_MONTH


def per_million(cores: float, rate: float, price: float) -> float:
    """Price of a million requests if the rate is what the cores were chosen for."""
    return cores * price / 3600 / rate * _MICRO
