"""What the autoscaling of `deploy/kubernetes` makes of a step, a wave and bursts: its own rules, windows and target, simulated.

The law of Kubernetes' HorizontalPodAutoscaler (autoscaling/v2) around a queue, second by second for half an hour.
"""

import math
import random
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

KEDA = Path(__file__).parents[2] / "deploy" / "kubernetes" / "components" / "keda"
_, _SPEC = yaml.safe_load((KEDA / "scaling.yaml").read_text())
SPEC = _SPEC["value"]
TRIGGER = SPEC["triggers"][0]["metadata"]
# The time that rates are taken over, and at most how many times as much as is served is believed to be offered.
RATE_S = int(re.findall(r"\[(\d+)s\]", TRIGGER["query"])[0])
MOST_OFFERED = int(re.findall(r"(\d+)\)$", TRIGGER["query"])[0])
[_SCRAPED] = yaml.safe_load((KEDA / "podmonitor.yaml").read_text())["spec"]["podMetricsEndpoints"]
SCRAPE_S = int(_SCRAPED["interval"].removesuffix("s"))
SECONDS, SEEDS = 1800, range(8)
# The controller's defaults, which `behavior` does not change: seconds between decisions, and how far off it does nothing.
SYNC_S, TOLERANCE = 15, 0.1
# A leaf of `flights`: core-seconds of a row, of seconds of work that may wait before the door turns rows away.
ROW, WAIT_S = 0.01, 0.5
Load = Callable[[float], float]


def step(t: float) -> float:
    """Eight times the load for a quarter of an hour."""
    return 1200.0 if 300 <= t < 1200 else 150.0


def wave(t: float) -> float:
    """Up and down by 7, four times."""
    return 600 + 450 * math.sin(t / SECONDS * 2 * math.pi * 4)


def bursts(t: float) -> float:
    """A minute of 8.5 times the load, each ten minutes."""
    return 1700.0 if t % 600 >= 540 else 200.0


@dataclass(frozen=True)
class Scale:
    """How a service follows the load. `cores`: of demand, that one pod is meant for."""

    least: int = SPEC["minReplicaCount"]
    most: int = SPEC["maxReplicaCount"]
    cores: float = float(TRIGGER["threshold"])


class Autoscaler:
    """One HPA with an External metric and an AverageValue. `behavior`: as in its manifest."""

    def __init__(self, scale: Scale, behavior: Any = None) -> None:
        self.scale = scale
        self.behavior = behavior or SPEC["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        self._wanted: deque[tuple[float, int]] = deque()
        self._changes: list[tuple[float, int]] = []

    def decide(self, now: float, size: int, demand: float) -> int:
        wanted = size
        if abs(1 - demand / (self.scale.cores * size)) > TOLERANCE:
            wanted = math.ceil(demand / self.scale.cores)
        self._wanted.append((now, wanted))
        up, down = (self._since(now, direction) for direction in ("scaleUp", "scaleDown"))
        wanted = max(min(up), min(size, max(down)))
        if wanted > size:
            most = max(self._bound(p, now, size, 1) for p in self.behavior["scaleUp"]["policies"])
            wanted = min(wanted, max(size, most), self.scale.most)
        else:
            least = min(self._bound(p, now, size, -1) for p in self.behavior["scaleDown"]["policies"])
            wanted = max(wanted, min(size, least), self.scale.least)
        self._changes.append((now, wanted - size))
        return wanted

    def _since(self, now: float, direction: str) -> list[int]:
        """What was wanted within the stabilisation window."""
        window = self.behavior[direction]["stabilizationWindowSeconds"]
        return [w for at, w in self._wanted if at > now - window] or [self._wanted[-1][1]]

    def _bound(self, policy: Any, now: float, size: int, sign: int) -> int:
        """The size that a policy allows, counted from the one at the beginning of its period; rounded as the controller does."""
        began = size - sum(by for at, by in self._changes if at > now - policy["periodSeconds"])
        if policy["type"] == "Pods":
            return began + sign * int(policy["value"])
        changed = began * (1 + sign * policy["value"] / 100)
        return math.ceil(changed) if sign > 0 else int(changed)


@dataclass(frozen=True)
class Outcome:
    """`turned_away`, `cold` (waited or turned away while a pod started): parts of all rows; `hours`: of replicas."""

    changes: int
    peak: int
    turned_away: float
    cold: float
    hours: float


def run(load: Load, seed: int, scale: Scale, start_s: float) -> Outcome:
    chance = random.Random(seed)
    behind = chance.randrange(SYNC_S)
    pods = [0.0] * max(scale.least, math.ceil(load(0) * ROW / scale.cores))
    autoscaler, seen = Autoscaler(scale), deque[tuple[float, float, float]]()
    served = refused = cpu = cold = waiting = hours = 0.0
    changes, peak = 0, len(pods)
    for t in range(SECONDS):
        rows = max(0.0, load(t) * (1 + chance.gauss(0, 0.08)))
        ready = sum(at <= t for at in pods)
        todo = waiting + rows
        done = min(todo, ready / ROW)
        cold += min(rows, todo - done) if ready < len(pods) else 0.0
        waiting = min(todo - done, ready / ROW * WAIT_S)
        served += done
        refused += todo - done - waiting
        # Natural batching: the busier, the larger the batches, the cheaper a row.
        cpu += min(done * ROW * (1.3 - 0.3 * done / (ready / ROW)), float(ready))
        hours += len(pods) / 3600
        if t % SCRAPE_S == 0:
            seen.append((served, refused, cpu))
            if len(seen) > RATE_S // SCRAPE_S + 1:
                seen.popleft()
        if t % SYNC_S != behind or len(seen) < 2:
            continue
        size = autoscaler.decide(t, len(pods), demand(seen[0], seen[-1], (len(seen) - 1) * SCRAPE_S))
        changes += size != len(pods)
        peak = max(peak, size)
        # The youngest go first, as in Kubernetes.
        pods = sorted(pods + [t + start_s] * (size - len(pods)))[:size]
    rows = served + refused
    return Outcome(changes, peak, refused / rows, cold / rows, hours)


def demand(first: tuple[float, ...], last: tuple[float, ...], took: float) -> float:
    """Cores, as the query of the manifest has it."""
    served, refused, cpu = ((b - a) / took for a, b in zip(first, last, strict=True))
    return cpu * min(1 + refused / max(served, 1.0), MOST_OFFERED)


@cache
def worst(load: Load, least: int = 2, start_s: float = 8.0) -> Outcome:
    runs = [run(load, seed, Scale(least=least), start_s) for seed in SEEDS]
    return Outcome(*(max(getattr(each, key) for each in runs) for key in Outcome.__annotations__))


def test_eight_times_the_load_at_once_is_followed_in_few_changes() -> None:
    assert worst(step).changes <= 10
    assert worst(step).turned_away <= 0.025


def test_a_wave_is_followed_without_oscillation() -> None:
    assert worst(wave).changes <= 16
    assert worst(wave).turned_away <= 0.015


def test_bursts_need_pods_that_are_there_before() -> None:
    ready = worst(bursts, least=16)
    assert ready.turned_away <= 0.02
    assert worst(bursts).turned_away > 0.1
    # What that costs: less than the size of the peak all the time.
    assert ready.hours < ready.peak / 2


def test_with_pods_for_the_peak_fewer_than_one_row_in_a_hundred_meets_a_cold_start() -> None:
    assert worst(bursts, least=18).cold < 0.01
    assert worst(bursts).cold > 0.05
    # The door's time to be ready in its image; the others' are longer.
    assert worst(bursts, least=17, start_s=1.4).cold < 0.01


def test_room_that_is_held_is_worth_a_minute_of_a_nodes_start() -> None:
    assert worst(step).turned_away < worst(step, start_s=60.0).turned_away / 2


def decisions(behavior: Any, size: int, *demands: tuple[float, float]) -> list[int]:
    hpa = Autoscaler(Scale(least=1, most=40, cores=1.0), behavior)
    return [size := hpa.decide(at, size, cores) for at, cores in demands]


def rules(window_s: float, **policies: int) -> Any:
    found = [{"type": kind, "value": value, "periodSeconds": 30} for kind, value in policies.items()]
    return {"stabilizationWindowSeconds": window_s, "policies": found}


def test_the_law_is_the_controllers() -> None:
    fast, whole = rules(0, Pods=100), rules(0, Percent=100)
    window = {"scaleUp": fast, "scaleDown": rules(60, Percent=100)}
    found = decisions(window, 4, (0, 10), (15, 2), (30, 6), (59, 2), (60, 2), (90, 2))
    assert found == [10, 10, 10, 10, 6, 2]
    slow = {"scaleUp": rules(30, Pods=100), "scaleDown": whole}
    assert decisions(slow, 4, (0, 4), (15, 20), (30, 12)) == [4, 4, 12]
    # Four pods are more than a hundred per cent of two, and count for the whole period.
    pace = {"scaleUp": rules(0, Percent=100, Pods=4), "scaleDown": rules(0, Percent=50)}
    assert decisions(pace, 2, (0, 30), (15, 30), (30, 30), (90, 1), (105, 1)) == [6, 6, 12, 6, 6]
    # Within a tenth of the target nothing changes.
    assert decisions(pace, 10, (0, 10.9), (30, 11.1)) == [10, 12]
