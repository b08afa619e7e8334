"""How long a run of n rows takes, learned from runs: what the scheduler plans with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_WEIGHT = 0.2
# One pause of the machine must not make the scheduler drop rows that would have made it.
_MAX_RISE = 2.0
_RELAX = 0.95


class RunTimes:
    """Moving averages (EWMA) of run time in seconds, by batch size in powers of two."""

    def __init__(self) -> None:
        # Class (bit length of the row count) → average time and average rows of the runs in it.
        self._classes: dict[int, tuple[float, float]] = {}

    def learn(self, rows: int, seconds: float) -> None:
        """A run of `rows` ≥ 1 took `seconds`."""
        known = self._classes.get(rows.bit_length())
        if known is None:
            self._classes[rows.bit_length()] = (seconds, float(rows))
            return
        average, size = known
        seconds = min(seconds, average * _MAX_RISE)
        self._classes[rows.bit_length()] = (
            average + _WEIGHT * (seconds - average),
            size + _WEIGHT * (rows - size),
        )

    def estimate(self, rows: int) -> float:
        """Expected seconds for a run of `rows` ≥ 1, from the nearest size that is known; 0 if none is."""
        exact = self._classes.get(rows.bit_length())
        if exact is None and not self._classes:
            return 0.0
        if exact is None:
            wanted = rows.bit_length()
            exact = self._classes[min(self._classes, key=lambda c: (abs(c - wanted), c))]
        seconds, size = exact
        # More rows cost more in proportion; fewer are not taken to be faster: a run has a fixed part.
        return seconds * rows / size if rows > size else seconds

    def relax(self) -> None:
        """Trust the averages less: they forbade a run, and without runs they could never be corrected."""
        self._classes = {c: (seconds * _RELAX, size) for c, (seconds, size) in self._classes.items()}


_HYSTERESIS = 1.25


class InlinePolicy:
    """Decides by the expected run time, with hysteresis context `limit` seconds lest it flutter."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._inline = False
        self._barred = False

    def inline(self, expected: float) -> bool:
        """Whether the next run (expected seconds, 0 = unknown) goes on the event loop itself."""
        if not expected or self._barred:
            return False
        if self._inline and expected > self._limit * _HYSTERESIS:
            self._inline = False
        elif not self._inline and expected < self._limit / _HYSTERESIS:
            self._inline = True
        return self._inline

    def bar(self) -> None:
        """A run was expected to be short and hung: never again on the loop."""
        self._barred = True


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
