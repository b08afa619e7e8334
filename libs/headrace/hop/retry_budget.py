"""Retry budget of one client: a token bucket that calls fill and retries empty. Pure."""

from __future__ import annotations

# A busy client may save up so many times its reserve: enough to move what was in flight off a dead replica.
_SAVINGS = 10.0


class RetryBudget:
    """At most `reserve + ratio × calls` retries ever, so that retries cannot multiply into a storm."""

    __slots__ = ("_cap", "_ratio", "balance")

    def __init__(self, ratio: float, reserve: float) -> None:
        self._ratio = ratio
        self._cap = max(reserve, reserve * _SAVINGS if ratio else reserve)
        self.balance = reserve

    def deposit(self) -> None:
        """A first attempt was made."""
        self.balance = min(self._cap, self.balance + self._ratio)

    def withdraw(self) -> bool:
        """Whether one retry may be made; it is paid for at once."""
        if self.balance < 1:
            return False
        self.balance -= 1
        return True
