"""How many cores, processes and how much memory a load needs, and what they cost, from what was measured.

    cores     = requests/s × CPU seconds of a request ÷ headroom
    processes = that of each service, rounded up: a process has one thread of Python

Headroom is how full the cores may be. Its reason is the queue: with one that gets requests at random, the p99 is
`4.6 × work ÷ (1 − how full)`, `work` being the CPU time of one request (M/M/1; ln 100 = 4.6). So a demanded p99 bounds it:
`1 − 4.6 × work ÷ p99`. Beyond that, half of the peak leaves room for a lost machine, a deploy and bursts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost.prices import CPU, GB, HOUR_S, MONTH_S, Prices
from headrace.cost.usage import CACHED, LIVE, SHAPES, Shape

DEFAULT_HEADROOM = 0.5
# Fewer rows say little: the fixed work of processes is a large part of what they used.
MIN_ROWS = 1000
_LN_100 = math.log(100)
_MICRO = 1e6
_FEW, _MANY = 1, 64
_MIB = 1 << 20
# A service without a figure of its own.
_USUAL_GB = 0.1


class PlanError(Exception):
    """There is no plan; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """CPU of one request by service, as a function of its rows, and memory of a process. `source`: what was measured, `when`:
    its date; `rows`: the mean rows of a request there, or 0 if several were measured."""

    source: str
    when: str
    shapes: Mapping[str, Shape]
    memory_gb: Mapping[str, float]
    rows: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """`us`: CPU of one request."""

    service: str
    us: float
    cores: float
    processes: int
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Plan:
    """`per_month`: price of `cores` and `memory_gb`, always on; `per_million`: of a million requests at this rate."""

    needs: tuple[Need, ...]
    headroom: float
    why: str
    per_month: float
    per_million: float

    @property
    def cores(self) -> float:
        return sum(n.cores for n in self.needs)

    @property
    def memory_gb(self) -> float:
        return sum(n.memory_gb for n in self.needs)

    @property
    def processes(self) -> int:
        return sum(n.processes for n in self.needs)


def plan(
    measured: Measurement, prices: Prices, rate: float, rows: int, p99_ms: float | None, headroom: float
) -> Plan:
    """What `rate` requests/s of `rows` rows need. Raises PlanError: the p99 can't be kept, however many cores there are."""
    us = {service: shape.us(rows) for service, shape in measured.shapes.items()}
    full, why = _headroom(sum(us.values()), p99_ms, headroom)
    needs = []
    for service, spent in us.items():
        cores = rate * spent / _MICRO / full
        processes = max(math.ceil(cores), 1)
        memory = processes * measured.memory_gb.get(service, _USUAL_GB)
        needs.append(Need(service, spent, cores, processes, memory))
    found = tuple(sorted(needs, key=lambda n: -n.us))
    cores, memory = sum(n.cores for n in found), sum(n.memory_gb for n in found)
    hour = cores * prices.prices.core_hour + memory * prices.prices.memory_gb_hour
    return Plan(found, full, why, hour * MONTH_S / HOUR_S, hour / HOUR_S / rate * _MICRO)


def _headroom(work_us: float, p99_ms: float | None, headroom: float) -> tuple[float, str]:
    """How full the cores may be, and why."""
    if p99_ms is None:
        return (
            headroom,
            f"{headroom:.0%} of the peak, for a lost machine, a deploy and bursts; no p99 was demanded",
        )
    least_ms = _LN_100 * work_us / 1000
    full = 1 - least_ms / p99_ms
    if full <= 0:
        raise PlanError(
            f"a p99 of {p99_ms:g} ms can't be kept: a request takes {work_us / 1000:.3g} ms of CPU, so {least_ms:.3g} ms "
            "by the formula of the queue, however many cores there are; send fewer rows a request, or use a lighter model"
        )
    formula = f"1 − 4.6 × {work_us / 1000:.3g} ms of work ÷ {p99_ms:g} ms"
    if full < headroom:
        return full, f"{full:.0%} of the peak, so that the queue keeps the p99: {formula}"
    return headroom, f"{headroom:.0%} of the peak; the p99 alone would allow {full:.0%} ({formula})"


def of_account(account: pb.CostAccount, pipeline: str, source: str) -> Measurement:
    """From the ledger: the measured CPU of each service for what callers asked, spread over requests and rows in the relation
    of `SHAPES`. `pipeline`: "" for all.

    Raises PlanError: too little was measured.
    """

    def planned(key: pb.CostKey) -> bool:
        # Shadows, explanations and replays are no requests of a load.
        return key.traffic in (LIVE, CACHED) and pipeline in ("", key.pipeline)

    rows = sum(c.row_count for c in account.counts if planned(c.key))
    requests = sum(c.request_count for c in account.counts if planned(c.key))
    if rows < MIN_ROWS or not requests:
        raise PlanError(
            f"{source} has {rows} rows{f' of {pipeline}' if pipeline else ''}; {MIN_ROWS} are needed. Let it serve "
            "for a while, ask for a longer time with --since, or give a recorded measurement with --measurement FILE"
        )
    spent: dict[str, float] = {}
    for line in account.charges:
        if line.resource == CPU and planned(line.key):
            spent[line.service] = spent.get(line.service, 0.0) + line.quantity * _MICRO
    shapes = {}
    for service, us in spent.items():
        usual = SHAPES.get(service, Shape(1.0, 1.0))
        factor = us / usual.us(rows, requests)
        shapes[service] = Shape(usual.request * factor, usual.row * factor)
    began, ended = (f"{t.ToDatetime(UTC):%Y-%m-%d %H:%M}" for t in (account.since, account.until))
    when = f"{began} to {ended} UTC, {rows} rows in {requests} requests"
    return Measurement(source, when, shapes, dict(account.memory_gb), rows / requests)


def of_file(path: Path, shape: str) -> Measurement:
    """From a recorded measurement, as `python -m load scaling --keep` writes it. Raises PlanError."""
    try:
        figures = json.loads(path.read_text())
        few, many = (_cheapest(figures, shape, rows) for rows in (_FEW, _MANY))
        shapes = {s: _through(us, many["services_us"][s]) for s, us in few["services_us"].items()}
        memory = {s: mib * _MIB / GB for s, mib in many["memory_mib"].items()}
        when = (
            few.get("date")
            or f"undated; the file is of {datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d}"
        )
    except OSError as error:
        raise PlanError(f"{path} can't be read: {(error.strerror or '').lower()}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__} {error}"
        raise PlanError(
            f"{path} is no measurement ({told}); make one by: python -m load scaling --rows 1,64 --keep FILE"
        ) from error
    return Measurement(str(path), when, shapes, memory)


def _through(one_us: float, many_us: float) -> Shape:
    """The line through the figures of 1 row and of 64."""
    row = (many_us - one_us) / (_MANY - _FEW)
    return Shape(one_us - row, row)


def _cheapest(figures: Any, shape: str, rows: int) -> Mapping[str, Any]:
    """At the concurrency that cost least: batches are full there, and queues not long."""
    fit = [line for line in figures if line["shape"] == shape and line["rows"] == rows]
    if not fit:
        raise ValueError(f"no figures of {rows} rows a request in the shape {shape}")
    found: Mapping[str, Any] = min(fit, key=lambda line: sum(line["services_us"].values()))
    return found
