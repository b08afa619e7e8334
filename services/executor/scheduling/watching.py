"""Runs on the event loop can't be interrupted from it: a thread of its own sees to those that hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_EVERY_S = 0.05


class Watchdog:
    """Watches the one run that may be on the loop, and has it ended when it takes longer than `limit` seconds."""

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        # Who runs and since when; assigned as one, so that the thread never sees half of it.
        self._run: tuple[Callable[[float], None], float] | None = None
        self._ended = threading.Event()
        # Now, not at the first run: a caller would wait until a busy machine has begun the thread.
        self._thread = threading.Thread(target=self._watch, name="executor-watchdog", daemon=True)
        self._thread.start()

    def begin(self, interrupt: Callable[[float], None], now: float) -> None:
        """A run begins; `interrupt(started_before)` would end it."""
        self._run = (interrupt, now)

    def end(self) -> None:
        """The run is over."""
        self._run = None

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            run = self._run
            if run is None:
                continue
            interrupt, began = run
            now = self._clock()
            if now - began > self.limit:
                interrupt(now)
