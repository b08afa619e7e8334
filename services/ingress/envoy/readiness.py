"""Whether the door wants new callers: Envoy's word, for every protocol the same.

A stop begins with `/healthcheck/fail` on Envoy's admin port, whoever asks for it (`drain.py`, a preStop hook, an
operator). From then on Envoy is DRAINING: readiness must say no while calls are still served, so that balancers look
elsewhere before anything closes. Envoy tells the application nothing of it, so the application asks, when it is asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from services.ingress.envoy.drain import Ask

_LIVE = re.compile(rb"HTTP/1\.[01] 200 ")
# A storm of probes, which need no credential, becomes so many looks at the admin port.
FRESH_S = 0.1


class Readiness:
    """Asks Envoy by `ask`, at most every FRESH_S seconds of `clock` (monotonic)."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = asyncio.Lock()
        self._known: tuple[float, bool] | None = None

    async def ready(self) -> bool:
        """False once a stop has begun, or if Envoy does not answer. Never raises."""
        async with self._lock:
            if self._known is None or self._clock() - self._known[0] >= FRESH_S:
                answer = await self._ask("GET", "/ready")
                self._known = (self._clock(), answer is not None and bool(_LIVE.match(answer)))
            return self._known[1]
