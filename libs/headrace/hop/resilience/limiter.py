"""Limits as pure state machines: how many calls of one method a replica may have at once, and a rate with a burst."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from headrace.hop.client.outgoing import Outgoing
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import KEY, SERVER_CONCURRENCY

if TYPE_CHECKING:
    from headrace.hop.client.settings import LimiterRules

# As in Netflix's VegasLimit: after about multiplier × limit samples the best time is measured again.
_PROBE_MULTIPLIER = 30
# So many answers one after another must speak of a queue: one quick answer shows that there is none, and what took long by
# nature, or while the callee stood still for a moment, is among others.
_RUN = 8
# A clock may measure zero for a call inside the process.
_TICK_S = 1e-6
# A kind is what `Outgoing.kind` says. If there are more than this, something creates them without limit.
_MAX_KINDS = 256
# Refusals that speak of the callee's own load. Others speak of a tenant's, of a queue's, or of a service behind it.
_OWN = ("", SERVER_CONCURRENCY.name)


class _Noload:
    """Best round trip of one kind, and samples since it was measured."""

    def __init__(self, seconds: float, jitter: float) -> None:
        self.seconds = seconds
        self.samples = 0
        self.jitter = jitter


class ConcurrencyLimiter:
    """Counts calls in flight and adapts how many there may be.

    Every `acquire` that returned True is followed by exactly one `release`; before it comes `sample`, `refused` or `timed_out`
    if the call said something about the callee's load. `random` gives floats in [0, 1).
    """

    def __init__(self, rules: LimiterRules, random: Callable[[], float]) -> None:
        self._rules = rules
        self._random = random
        self._limit = float(min(max(rules.initial, rules.minimum), rules.maximum))
        self._noload: dict[Hashable, _Noload] = {}
        self._queued = 0  # answers in a row that speak of a queue
        self.in_flight = 0

    @property
    def limit(self) -> int:
        return int(self._limit)

    def has_room(self) -> bool:
        return self.in_flight + 1 <= self._limit

    def acquire(self) -> bool:
        """Takes a slot for one call; False if there is none free."""
        if self.in_flight + 1 > self._limit:
            return False
        self.in_flight += 1
        return True

    def release(self) -> None:
        self.in_flight -= 1

    def sample(self, kind: Hashable, seconds: float) -> None:
        """A call of this kind was answered after `seconds`."""
        if seconds < _TICK_S:
            seconds = _TICK_S
        best = self._noload.get(kind)
        if best is None:
            if len(self._noload) >= _MAX_KINDS:
                self._noload.clear()
            self._noload[kind] = _Noload(seconds, self._jitter())
            return
        best.samples += 1
        if seconds < best.seconds:
            best.seconds = seconds
        elif best.samples >= best.jitter * _PROBE_MULTIPLIER * self._limit:
            best.seconds, best.samples, best.jitter = seconds, 0, self._jitter()
        elif self.in_flight * 2 >= self._limit:  # otherwise the limit did not restrict anything
            self._move(self._limit * (1 - best.seconds / seconds))

    def refused(self) -> None:
        """The callee refused the call for load."""
        self._set(self._limit - max(1.0, math.log10(self._limit)))

    def timed_out(self) -> None:
        """The call got no answer in ample time."""
        if self.in_flight * 2 >= self._limit:
            self._lasted_long()

    def _move(self, queued: float) -> None:
        step = max(1.0, math.log10(self._limit))
        queued = math.ceil(queued)
        if queued > 6 * step:
            self._lasted_long()
            return
        self._queued = 0
        if queued < 3 * step:
            self._set(self._limit + (6 * step if queued <= step else step))

    def _lasted_long(self) -> None:
        self._queued += 1
        if self._queued == _RUN:
            self._queued = 0
            self.refused()

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, self._rules.minimum), self._rules.maximum)

    def _jitter(self) -> float:
        return 0.5 + self._random() / 2


def failed(limiter: ConcurrencyLimiter, out: Outgoing, fault: Fault) -> None:
    """A call failed: tells its limiter if that says something of the callee's load."""
    if out.sent and fault.code is Code.DEADLINE_EXCEEDED:
        limiter.timed_out()
    elif out.sent and fault.reason == Reason.REASON_OVERLOADED and _is_own(fault):
        limiter.refused()


def _is_own(fault: Fault) -> bool:
    return fault.code is Code.RESOURCE_EXHAUSTED and fault.metadata.get(KEY, "") in _OWN


class TokenBucket:
    """Lets `rate` tokens per second through, and up to `burst` at once. Time is passed in, in seconds.

    A request of more than `burst` waits for a full bucket and leaves a debt. So large requests can pass, and the rate still
    holds in the long run.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, max(burst, 1.0)
        self._tokens, self._at = self._burst, now

    @property
    def empty(self) -> bool:
        """Whether there was less than one token at the last update."""
        return self._tokens < 1.0 and self._tokens < self._burst

    def take(self, now: float) -> float:
        """Takes one token and returns 0.0, or returns the seconds until one may be available."""
        wait = self.wait(now, 1.0)
        if wait == 0.0:
            self.spend(1.0)
        return wait

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` can be taken; 0.0: now."""
        tokens, burst = self._tokens, self._burst
        # A clock that stands still or goes backwards must not create tokens.
        if now > self._at:
            tokens += (now - self._at) * self._rate
            self._tokens = tokens = tokens if tokens < burst else burst
            self._at = now
        missing = (amount if amount < burst else burst) - tokens
        return missing / self._rate if missing > 0.0 else 0.0

    def spend(self, amount: float) -> None:
        """Takes `amount`, which may leave a debt."""
        self._tokens -= amount

    def resize(self, rate: float, burst: float, now: float) -> None:
        """Has another rate and burst from now on. What is left of the burst, or owed, keeps its share of it."""
        self.wait(now, 0.0)
        before = self._burst
        self._rate, self._burst = rate, max(burst, 1.0)
        self._tokens *= self._burst / before

    def lease(self, rate: float, burst: float, tokens: float, share: float, now: float) -> None:
        """Has a share (0 to 1) of a bucket that several have together, and `tokens` of those in it.

        A share that holds less than one token lets one through when it is full: the debt is that of all.
        """
        self._rate, self._burst = rate * share, burst * share
        self._tokens, self._at = min(tokens, self._burst), now

    def spent_elsewhere(self, now: float, amount: float, largest: float) -> None:
        """Subtracts what other processes took since the last call. `largest`: the most that one of their requests took."""
        self.wait(now, 0.0)
        # Others may have taken the same last tokens, or had a different limit. This leaves a debt, but the debt is bounded.
        floor = min(self._tokens, -max(self._burst, largest))
        self._tokens = max(self._tokens - amount, floor)
