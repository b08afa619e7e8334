"""Whether the door accepts new callers. Envoy decides it, and the answer is the same for every protocol.

Every stop begins with `/healthcheck/fail` on Envoy's admin port (from `drain.py`, a preStop hook or an operator). From then on
Envoy is DRAINING: readiness must be false while calls are still served, so that load balancers use other instances before
anything closes. Envoy does not tell the application about it, so the application asks Envoy for each readiness request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from services.ingress.envoy.drain import Ask

_LIVE = re.compile(rb"HTTP/1\.[01] 200 ")
# An answer stays valid this long. Probes need no credential, so this bounds how often a flood of them reaches the admin port.
FRESH_S = 0.1


class Readiness:
    """Asks Envoy with `ask`, at most every FRESH_S seconds of `clock` (monotonic). `can_serve`: whether the door has what it
    serves by; as long as it has not, it is not ready."""

    def __init__(self, ask: Ask, clock: Callable[[], float], can_serve: Callable[[], bool]) -> None:
        self._can_serve = can_serve
        self._ask = ask
        self._clock = clock
        self._lock = asyncio.Lock()
        self._known: tuple[float, bool] | None = None

    async def ready(self) -> bool:
        """False once a stop has begun, if Envoy does not answer, or before the door can serve. Never raises."""
        if not self._can_serve():
            return False
        async with self._lock:
            if self._known is None or self._clock() - self._known[0] >= FRESH_S:
                answer = await self._ask("GET", "/ready")
                self._known = (self._clock(), answer is not None and bool(_LIVE.match(answer)))
            return self._known[1]
