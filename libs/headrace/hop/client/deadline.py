"""Deadline: each call has one, a little before the caller's, so that this side can still answer in time."""

from __future__ import annotations

import math
import time
from typing import Any

from headrace.hop.client import faults
from headrace.hop.client.outgoing import Layer, Next, Outgoing


def deadline(callee: str, default_timeout_s: float, margin_s: float) -> Layer:
    """Refuses a call whose time is over, gives a call without deadline the default, shaves the margin off."""

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            now = time.monotonic()
            if out.deadline == math.inf:
                out.deadline = now + default_timeout_s
            out.deadline -= margin_s
            if out.deadline <= now:
                raise faults.deadline_passed(callee)
            return await call_next(out)

        return call

    return layer
