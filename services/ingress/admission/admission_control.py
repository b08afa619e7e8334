"""How many inferences may be on their way at once, and who goes without when there are more: a state machine.

Every request brings the time that it may take. The limit moves to where requests take a set part of that, on average: what
is begun can end in time, and what can't is told so before its message is read. The last places are for those of high
priority and for tenants with less than their share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

# Below this part of the limit anybody may enter; from there up to the whole of it, by priority (1 to 10).
_ANYBODY = 0.7
_PRIORITIES = 10
# A tenant with more than its share must leave this part of its places to the others.
_LEFT = 0.3
# One with less than half its share finds this part of the limit beyond what all others may fill: they may hold what they have for
# long, as with messages that do not become whole.
_FOR_OTHERS = 0.15
# The limit moves when as many have ended as were on their way at its last move, since only they have felt it; not more
# often than this.
_WINDOW_S = 0.05
_MIN_ENDED = 8
# How far it moves at once. What takes time grows with what is on its way, so the goal divided by what was taken says where
# to go; half the way (in logarithms) is gone, lest the limit swing.
_LOWEST, _HIGHEST = 0.5, 1.5
_PART = 0.5
# A caller who allows less than so many times what the quickest request took of late would fail in an idle system, too: that it
# did is no sign of too much. "Of late": in this time (seconds), or in that before it.
_HOPELESS = 2.0
_QUICKEST_S = 10.0
# What a request that failed for want of time or room took of its time, if not more.
_FAILED = 1.5


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """Bounds of the limit, and which part of their time requests should take on average."""

    initial: int
    minimum: int
    maximum: int
    goal: float


class AdmissionControl:
    """Counts the inferences on their way, in all and by tenant. `clock`: monotonic seconds.

    Each `acquire` that returned True is followed by one `release`.
    """

    __slots__ = (
        "_clock",
        "_due",
        "_ended",
        "_felt",
        "_limit",
        "_of",
        "_quickest",
        "_quickest_since",
        "_rules",
        "_since",
        "_taken",
        "in_flight",
    )

    def __init__(self, rules: AdmissionRules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._limit = float(min(max(rules.initial, rules.minimum), rules.maximum))
        self._of: dict[str, int] = {}
        self._since = clock()
        # Since the last move: requests ended, parts of their time that they took in sum, whether anybody was refused.
        self._ended, self._taken, self._felt = 0, 0.0, False
        self._due = _MIN_ENDED
        # Seconds that the quickest success took: before, and since `_quickest_since`.
        self._quickest, self._quickest_since = (math.inf, math.inf), clock()
        self.in_flight = 0

    @property
    def limit(self) -> int:
        return int(self._limit)

    def acquire(self, tenant: str, priority: int) -> bool:
        """Takes a place for a request; False if there is none for it."""
        mine = self._of.get(tenant, 0)
        if self.in_flight >= self._limit * _ANYBODY * (1 - _LEFT) and self.headroom(tenant, priority) < 1:
            self._felt = True
            return False
        self.in_flight += 1
        self._of[tenant] = mine + 1
        return True

    def headroom(self, tenant: str, priority: int) -> int:
        """How many more of a tenant's requests would find a place now."""
        mine = self._of.get(tenant, 0)
        places = self._limit * (_ANYBODY + (1 - _ANYBODY) * (priority - 1) / (_PRIORITIES - 1))
        tenants = len(self._of) + (mine == 0)
        if tenants > 1:
            if mine * tenants >= places:
                places *= 1 - _LEFT
            elif 2 * mine * tenants < places:
                places += self._limit * _FOR_OTHERS
        return max(math.ceil(max(places, 1.0)) - self.in_flight, 0)

    def release(self, tenant: str, took: float, allowed: float, overloaded: bool) -> None:
        """A request has ended after `took` of the `allowed` seconds (inf: any). `overloaded`: for want of time or room."""
        self.in_flight -= 1
        left = self._of[tenant] - 1
        if left:
            self._of[tenant] = left
        else:
            del self._of[tenant]
        if overloaded:
            quickest = min(self._quickest)
            if quickest < math.inf and allowed < _HOPELESS * quickest:
                return
            self._taken += max(took / allowed, _FAILED)
        elif math.isinf(allowed):
            return
        else:
            self._succeeded(took)
            self._taken += took / allowed
        self._ended += 1
        if self._ended >= self._due and self._clock() - self._since >= _WINDOW_S:
            self._move()

    def _succeeded(self, took: float) -> None:
        before, since = self._quickest
        if took < since:
            self._quickest = before, took
        if self._clock() - self._quickest_since >= _QUICKEST_S:
            self._quickest, self._quickest_since = (self._quickest[1], math.inf), self._clock()

    def _move(self) -> None:
        rules = self._rules
        mean = self._taken / self._ended
        factor = min(max(rules.goal / mean, _LOWEST), _HIGHEST) ** _PART if mean > 0 else _HIGHEST**_PART
        # A limit that nobody felt has no reason to grow beyond its start. Up to there it has: what an outage or a rush
        # has made of it must not meet the next burst.
        most = rules.maximum if self._felt else max(self._limit, rules.initial)
        self._limit = min(max(self._limit * factor, rules.minimum), most)
        self._since = self._clock()
        self._ended, self._taken, self._felt = 0, 0.0, False
        self._due = max(self.in_flight, _MIN_ENDED)
