"""Retry: a call that failed as a whole is tried again, on another replica if there is one, in a budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from headrace.hop.client.outgoing import Layer, Next, Outgoing
from headrace.hop.client.settings import RetryRules
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.resilience.retry_budget import RetryBudget

# The callee, or one behind it, is known to be down: to try again at once would only add load.
_FINAL = frozenset({Reason.REASON_BREAKER_OPEN, Reason.REASON_RETRY_BUDGET_EMPTY})


def retry(
    rules: RetryRules, budget: RetryBudget, random: Callable[[], float], retried: Callable[[str], None]
) -> Layer:
    """Retries idempotent methods. `random` gives floats in [0, 1); `retried` is told the method's name."""

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            budget.deposit()
            while True:
                try:
                    return await call_next(out)
                except Fault as fault:
                    pause = _pause(rules, fault, out, random)
                    if pause is None:
                        raise
                    now = time.monotonic()
                    if now + pause >= out.deadline or not budget.withdraw(now):
                        raise
                retried(out.method.name)
                await asyncio.sleep(pause)
                out.attempt += 1

        return call

    return layer


def _pause(rules: RetryRules, fault: Fault, out: Outgoing, random: Callable[[], float]) -> float | None:
    """Seconds to wait before the next attempt; None: there must be none."""
    if not out.method.idempotent or out.attempt >= rules.attempts or fault.reason in _FINAL:
        return None
    pushback = fault.retry_after_s
    if pushback is not None and pushback < 0:
        return None
    if fault.code is Code.UNAVAILABLE or (fault.code is Code.RESOURCE_EXHAUSTED and pushback is not None):
        # Full jitter: callers that failed together must not come back together.
        backoff: float = random() * min(rules.max_backoff_s, rules.backoff_s * 2.0 ** (out.attempt - 1))
        return backoff if pushback is None else pushback + backoff
    return None
