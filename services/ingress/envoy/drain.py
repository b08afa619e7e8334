"""The clean stop of Envoy, through its admin port: on SIGTERM Envoy would drop the calls in flight.

1. `/healthcheck/fail`: readiness returns 503, and every answer asks its client to open another connection (GOAWAY,
   `connection: close`). Then a pause, so that load balancers notice.
2. `/drain_listeners`: no new connections. A process that replaces this one already listens on the same port.
3. Wait until nothing has been in flight for a moment.
4. `/quitquitquit`, then wait for the exit: the application's lifespan flushes and closes.

With `drain_only`, steps 1 to 3, for a preStop hook: if that ended the process, the container's end would kill the hook,
which counts as failed. After it, SIGTERM ends the process and cuts nothing off.

If a successor listens on the same ports, step 2 comes before step 1. This was measured with eight busy clients and 24 restarts.
With step 1 first, three restarts lost requests: step 1 sent clients away, and they came back to the listener that step 2 closed.
With step 2 first, no restart lost requests.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

_ACTIVE = re.compile(rb"^http\.door\.downstream_rq_active: (\d+)", re.MULTILINE)
_POLL_S = 0.05
_QUIET_S = 0.5
_CLOSE_S = 15.0
Ask = Callable[[str, str], Awaitable[bytes | None]]


class AdminPort:
    """Envoy's admin port at "host:port"."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    async def ask(self, method: str, path: str) -> bytes | None:
        """The answer, headers included; None if no process listens there."""
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    head = f"{method} {path} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    writer.write(head.encode())
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None


async def stop(
    ask: Ask,
    *,
    notice_s: float,
    drain_s: float,
    successor: bool = False,
    drain_only: bool = False,
) -> int:
    """Lets the Envoy behind `ask` finish its calls, and ends it; waits until it has exited. Returns the number of calls that were
    left after `drain_s`, and so were cut off.

    `successor`: another process listens on the same ports, so this one stops listening first. Otherwise the clients that
    it sends away come back to it, and a client that is waiting to be accepted when the listener closes is cut off.
    `drain_only`: Envoy is not ended.
    """
    if successor:
        await ask("POST", "/drain_listeners")
    left = 0
    if await ask("POST", "/healthcheck/fail") is not None:
        await asyncio.sleep(notice_s)
        await ask("POST", "/drain_listeners")
        left = await _drained(ask, time.monotonic() + drain_s)
    if drain_only:
        return left
    await ask("POST", "/quitquitquit")
    end = time.monotonic() + _CLOSE_S
    while time.monotonic() < end and await ask("GET", "/ready") is not None:  # noqa: ASYNC110 - another process
        await asyncio.sleep(_POLL_S)
    return left


async def _drained(ask: Ask, end: float) -> int:
    quiet_since: float | None = None
    while True:
        now, active = time.monotonic(), await in_flight(ask)
        if active:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        if quiet_since is not None and now - quiet_since >= _QUIET_S:
            return 0
        if now >= end:
            return active
        await asyncio.sleep(_POLL_S)


async def in_flight(ask: Ask) -> int:
    """Number of requests that Envoy is serving; 0 if it has exited."""
    answer = await ask("GET", "/stats?filter=downstream_rq_active")
    found = _ACTIVE.search(answer) if answer else None
    return int(found[1]) if found else 0
