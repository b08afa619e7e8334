"""A load, a service and an autoscaler for half an hour, second by second."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from headrace.cli.deployment.description import Scale
from headrace.cli.deployment.kubernetes import scalers
from load.autoscaling.law import SYNC_S, Autoscaler, Rules, from_demand, from_usage
from load.autoscaling.service import Costs, Prometheus, Service

SECONDS = 1800
# Rows a second at a second.
Load = Callable[[float], float]
# The signals that can be compared: `demand` is the one that is deployed, `cpu` the usual one.
SIGNALS = ("demand", "cpu")


def step(t: float) -> float:
    """Eight times the load for a quarter of an hour."""
    return 1200.0 if 300 <= t < 1200 else 150.0


def wave(t: float) -> float:
    """Up and down by 7, four times."""
    return 600 + 450 * math.sin(t / SECONDS * 2 * math.pi * 4)


def bursts(t: float) -> float:
    """A minute of eight times the load, each ten minutes."""
    return 1700.0 if t % 600 >= 540 else 200.0


LOADS: dict[str, Load] = {"step ×8": step, "wave": wave, "bursts of a minute": bursts}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `turned_away`, `cold` (see Service.step): parts of all rows; `hours`: of replicas, ready or not."""

    changes: int
    peak: int
    turned_away: float
    hours: float
    cold: float


def run(
    load: Load,
    *,
    seed: int,
    scale: Scale | None = None,
    costs: Costs | None = None,
    signal: str = "demand",
    down_window_s: float | None = None,
) -> Outcome:
    """One run. The seed also says how far the autoscaler's clock is behind the load's."""
    scale = scale or Scale()
    chance = random.Random(seed)
    behind = chance.randrange(int(SYNC_S))
    start = max(scale.least, math.ceil(load(0) * (costs or Costs()).row / scale.cores))
    service = Service(costs or Costs(), start)
    prometheus = Prometheus(scalers.SCRAPE_S, scalers.RATE_S, scalers.MOST_OFFERED)
    autoscaler = _autoscaler(scale, down_window_s)
    changes, peak, hours = 0, start, 0.0
    for t in range(SECONDS):
        service.step(t, max(0.0, load(t) * (1 + chance.gauss(0, 0.08))))
        prometheus.scrape(t, service.counters)
        hours += service.replicas / 3600
        if t % SYNC_S != behind:
            continue
        size = autoscaler.decide(t, service.replicas, _wanted(signal, t, service, prometheus, scale))
        changes += size != service.replicas
        service.resize(t, size)
        peak = max(peak, size)
    counters = service.counters
    rows = counters.refused + counters.served
    return Outcome(changes, peak, counters.refused / rows, hours, counters.cold / rows)


def _autoscaler(scale: Scale, down_window_s: float | None) -> Autoscaler:
    down = Rules.of(scalers.BEHAVIOR["scaleDown"])
    if down_window_s is not None:
        down = replace(down, window_s=down_window_s)
    return Autoscaler(scale.least, scale.most, Rules.of(scalers.BEHAVIOR["scaleUp"]), down)


def _wanted(signal: str, now: int, service: Service, prometheus: Prometheus, scale: Scale) -> int:
    if signal == "cpu":
        ready = service.ready(now)
        usage = [service.busy] * ready
        return from_usage(usage, scale.cores, service.replicas, unready=service.replicas - ready, missing=0)
    demand = prometheus.demand()
    # As KEDA: without an answer the size stays as it is.
    return service.replicas if demand is None else from_demand(demand, scale.cores, service.replicas)
