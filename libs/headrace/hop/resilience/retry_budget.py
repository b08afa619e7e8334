"""Retry budget of one client: a token bucket that calls fill, time fills a little, and retries empty. Pure."""

from __future__ import annotations

# A busy client may save up so many times its reserve: enough to move what was in flight off a dead replica.
_SAVINGS = 10.0
# Time alone fills the reserve again, in so many seconds: a client that calls once a minute would earn its next retry in
# ten, as it makes too few calls to live on their share. No storm comes of it: 1 retry/s of a client with the default.
REFILL_S = 10.0


class RetryBudget:
    """At most `reserve + ratio × calls + reserve / REFILL_S × seconds` retries, so that they cannot become a storm."""

    __slots__ = ("_cap", "_ratio", "_refilled", "_reserve", "balance")

    def __init__(self, ratio: float, reserve: float) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._cap = max(reserve, reserve * _SAVINGS if ratio else reserve)
        self._refilled: float | None = None
        self.balance = reserve

    def deposit(self) -> None:
        """A first attempt was made."""
        self.balance = min(self._cap, self.balance + self._ratio)

    def withdraw(self, now: float) -> bool:
        """Whether one retry may be made; it is paid for at once. `now`: seconds of a clock that only moves forward."""
        # Here and not in `deposit`: every call comes there, and few need a retry. What is above the reserve was earned
        # by calls, and time adds nothing to it.
        if self._refilled is not None and self.balance < self._reserve:
            earned = self._reserve * (now - self._refilled) / REFILL_S
            self.balance = min(self._reserve, self.balance + earned)
        self._refilled = now
        if self.balance < 1:
            return False
        self.balance -= 1
        return True
