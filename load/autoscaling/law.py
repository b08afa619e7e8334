"""The control law of Kubernetes' HorizontalPodAutoscaler (autoscaling/v2), as its controller has it. Pure: the time is passed in.

What a metric asks for (`from_demand`, `from_usage`), then stabilisation windows, then the policies' limits of speed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# The controller's default; `behavior` does not change it.
TOLERANCE = 0.1
# Seconds between two of its decisions.
SYNC_S = 15.0


def from_demand(demand: float, target: float, replicas: int) -> int:
    """Size for an External metric with an AverageValue. Pods that are not ready count as if they were."""
    if abs(1 - demand / (target * replicas)) <= TOLERANCE:
        return replicas
    return math.ceil(demand / target)


def from_usage(ready: Sequence[float], target: float, replicas: int, *, unready: int, missing: int) -> int:
    """Size for a metric of each pod, such as its CPU. `ready`: the usage of pods that are; `missing`: pods without a value.

    A pod that is not ready counts as idle when the size would grow; one without a value counts as what keeps the size.
    """
    if not ready:
        return replicas
    ratio = sum(ready) / len(ready) / target
    # An unready pod that is no reason to grow is left out.
    idle = unready if ratio > 1 else 0
    if not idle and not missing:
        return replicas if abs(1 - ratio) <= TOLERANCE else math.ceil(ratio * len(ready))
    # A pod whose use is not known is taken to have the target's when the size would shrink, and none when it would grow.
    total = sum(ready) + (missing * target if ratio < 1 else 0.0)
    pods = len(ready) + idle + missing
    corrected = total / pods / target
    if abs(1 - corrected) <= TOLERANCE or (ratio < 1) != (corrected < 1):
        return replicas
    wanted = math.ceil(corrected * pods)
    # It must not change in the other direction than the pods say.
    return replicas if (corrected < 1) != (wanted < replicas) else wanted


@dataclass(frozen=True, slots=True)
class Policy:
    """How fast a size may change: by so many pods, or per cent, in a period."""

    kind: str
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for one direction. Of several policies, the one that allows most decides (`selectPolicy: Max`)."""

    window_s: float
    policies: tuple[Policy, ...]

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Rules:
        """From `behavior.scaleUp` or `.scaleDown` of a manifest. Raises ValueError for a choice that is not simulated."""
        if manifest.get("selectPolicy", "Max") != "Max":
            raise ValueError("only selectPolicy Max is simulated")
        found = tuple(Policy(p["type"], p["value"], p["periodSeconds"]) for p in manifest["policies"])
        return cls(manifest["stabilizationWindowSeconds"], found)


@dataclass(slots=True)
class Autoscaler:
    """One HPA. Call `decide` each `SYNC_S`."""

    least: int
    most: int
    up: Rules
    down: Rules
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    # (when, by how much) the size changed.
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, replicas: int, wanted: int) -> int:
        """The new size. `wanted`: what the metric asks for; `now` in seconds."""
        allowed = self._limited(now, replicas, self._stabilised(now, replicas, wanted))
        if allowed != replicas:
            self._changes.append((now, allowed - replicas))
        return allowed

    def _stabilised(self, now: float, replicas: int, wanted: int) -> int:
        """Grows only to the least, and shrinks only to the most, that was wanted within the windows."""
        longest = max(self.up.window_s, self.down.window_s)
        while self._wanted and self._wanted[0][0] <= now - longest:
            self._wanted.popleft()
        self._wanted.append((now, wanted))
        floor = min((w for at, w in self._wanted if at > now - self.up.window_s), default=wanted)
        ceiling = max((w for at, w in self._wanted if at > now - self.down.window_s), default=wanted)
        return max(floor, min(replicas, ceiling))

    def _limited(self, now: float, replicas: int, wanted: int) -> int:
        if wanted > replicas:
            highest = max(self._bound(policy, now, replicas, 1) for policy in self.up.policies)
            return min(wanted, max(replicas, highest), self.most)
        lowest = min(self._bound(policy, now, replicas, -1) for policy in self.down.policies)
        return max(wanted, min(replicas, lowest), self.least)

    def _bound(self, policy: Policy, now: float, replicas: int, sign: int) -> int:
        """The size that a policy allows now, counted from the one at the beginning of its period."""
        began = replicas - sum(by for at, by in self._changes if at > now - policy.period_s)
        if policy.kind == "Pods":
            return began + sign * policy.value
        # As the controller rounds: up when it grows, down when it shrinks.
        changed = began * (1 + sign * policy.value / 100)
        return math.ceil(changed) if sign > 0 else int(changed)
