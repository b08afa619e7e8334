"""Token bucket: a rate that may be exceeded for a moment. A pure state machine; time is passed in."""

from __future__ import annotations


class TokenBucket:
    """Lets `rate` tokens per second through, and up to `burst` at once. Time is passed in, in seconds.

    A request of more than `burst` waits for a full bucket and leaves a debt. So large requests can pass, and the rate still
    holds in the long run.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

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
