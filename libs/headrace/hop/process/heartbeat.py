"""Whether the event loop of a process still runs, shown by a thread that does not depend on it.

The metrics endpoint has its own thread, so it answers even when the loop is stuck. The other metrics would then look
healthy; the age of the loop's last heartbeat does not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Gauge

from headrace.hop.process.telemetry import Telemetry

AGE = "headrace_loop_heartbeat_age_seconds"
EVERY_S = 0.5


class Heartbeat:
    """When the loop last ran."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.beat()
        what = "Seconds since the event loop last took a turn; up to 0.5 while it is well."
        Gauge(AGE, what, registry=registry).set_function(self.age)

    def beat(self) -> None:
        """The loop runs. It is to be told again in EVERY_S."""
        self._last = time.monotonic()

    def age(self) -> float:
        """Seconds since the last heartbeat."""
        return time.monotonic() - self._last


@contextmanager
def beating(telemetry: Telemetry) -> Iterator[None]:
    """Exports the running loop's heartbeat in the process's metrics while the context is open."""
    heartbeat, loop = telemetry.once(Heartbeat), asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def beat() -> None:
        nonlocal timer
        heartbeat.beat()
        timer = loop.call_later(EVERY_S, beat)

    beat()
    telemetry.follow(heartbeat.age)
    try:
        yield
    finally:
        telemetry.follow(None)
        if timer is not None:
            timer.cancel()
