"""Retry: a call that failed as a whole is tried again, on another replica if there is one, within a budget.

The budget is a token bucket of one client: calls fill it, time fills it a little, retries empty it. It is a pure state machine.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.hop.client.outgoing import Outgoing
from headrace.hop.client.settings import RetryRules
from headrace.hop.errors import Code, Fault, Reason

# A busy client may save up this many times its reserve: enough to retry all calls in flight to a dead replica.
_SAVINGS = 10.0
# Time alone refills the reserve, in this many seconds. Otherwise a client that calls once a minute would earn its next
# retry only after ten minutes. This cannot cause a retry storm: it allows 1 retry/s per client with the defaults.
REFILL_S = 10.0


class RetryBudget:
    """At most `reserve + ratio × calls + reserve / REFILL_S × seconds` retries, so that they cannot become a storm."""

    def __init__(self, ratio: float, reserve: float) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._cap = max(reserve, reserve * _SAVINGS if ratio else reserve)
        self._refilled: float | None = None
        self._balance = reserve
        # First attempts since the last retry: added up when a retry is wanted, as every call makes one and few need a retry.
        self.attempts = 0

    @property
    def balance(self) -> float:
        """How many retries there are."""
        return min(self._cap, self._balance + self._ratio * self.attempts)

    def withdraw(self, now: float) -> bool:
        """Takes one retry from the budget; False if there is none. `now`: monotonic seconds."""
        balance = self.balance
        # Time refills only up to the reserve; calls can earn more.
        if self._refilled is not None and balance < self._reserve:
            earned = self._reserve * (now - self._refilled) / REFILL_S
            balance = min(self._reserve, balance + earned)
        self._refilled, self.attempts = now, 0
        self._balance = balance - 1 if balance >= 1 else balance
        return balance >= 1


# A pause grows up to this: a longer one would last as long as most deadlines.
_MAX_BACKOFF_S = 1.0
# The callee, or a service behind it, is known to be down: an immediate retry would only add load.
_FINAL = frozenset({Reason.REASON_BREAKER_OPEN, Reason.REASON_RETRY_BUDGET_EMPTY})


def pause(rules: RetryRules, fault: Fault, out: Outgoing, random: Callable[[], float]) -> float | None:
    """Seconds to wait before the next attempt; None: there must be none."""
    if not out.method.idempotent or out.attempt >= rules.attempts or fault.reason in _FINAL:
        return None
    pushback = fault.retry_after_s
    if pushback is not None and pushback < 0:
        return None
    if fault.code is Code.UNAVAILABLE or (fault.code is Code.RESOURCE_EXHAUSTED and pushback is not None):
        # Full jitter: callers that failed together must not come back together.
        backoff: float = random() * min(_MAX_BACKOFF_S, rules.backoff_s * 2.0 ** (out.attempt - 1))
        return backoff if pushback is None else pushback + backoff
    return None
