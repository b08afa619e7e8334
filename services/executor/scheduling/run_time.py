"""The run time of a model: estimated from earlier runs, the decision inline or thread, and a watchdog for runs that hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_WEIGHT = 0.2
# One slow run (a pause of the machine) must not make the scheduler drop rows that would be in time.
_MAX_RISE = 2.0
_RELAX = 0.95
# Without hysteresis a model whose run time is near the limit would change at each run.
_HYSTERESIS = 1.25
_WATCH_EVERY_S = 0.05


class RunTimes:
    """Moving averages (EWMA) of the run time in seconds, one for each power of two of the batch size."""

    def __init__(self) -> None:
        # Class (bit length of the row count) → average time and average rows of the runs in it.
        self._classes: dict[int, tuple[float, float]] = {}

    def learn(self, rows: int, seconds: float) -> None:
        """A run of `rows` ≥ 1 took `seconds`."""
        average, size = self._classes.get(rows.bit_length(), (seconds, float(rows)))
        seconds = min(seconds, average * _MAX_RISE)
        self._classes[rows.bit_length()] = (
            average + _WEIGHT * (seconds - average),
            size + _WEIGHT * (rows - size),
        )

    def estimate(self, rows: int) -> float:
        """Estimated seconds of a run of `rows` ≥ 1, from the nearest known size; 0 if none is known."""
        known, wanted = self._classes, rows.bit_length()
        if wanted not in known:
            if not known:
                return 0.0
            wanted = min(known, key=lambda c: (abs(c - wanted), c))
        seconds, size = known[wanted]
        # More rows than known: in proportion. Fewer: not faster, because a run has a fixed cost.
        return seconds * rows / size if rows > size else seconds

    def relax(self) -> None:
        """Lowers all averages a little: because of them no run starts, and without runs they never change."""
        self._classes = {c: (seconds * _RELAX, size) for c, (seconds, size) in self._classes.items()}


class InlinePolicy:
    """Decides whether a run is made on the event loop or on a thread, by its estimated run time.

    A change to a thread costs about 100 µs; a long run on the loop delays all other calls. `limit`: seconds.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._inline = False
        self._forbidden = False

    def allows(self, expected: float) -> bool:
        """Whether the next run may be on the event loop. `expected`: its estimated seconds; 0: unknown."""
        if not expected or self._forbidden:
            return False
        if self._inline and expected > self._limit * _HYSTERESIS:
            self._inline = False
        elif not self._inline and expected < self._limit / _HYSTERESIS:
            self._inline = True
        return self._inline

    def forbid(self) -> None:
        """No run on the event loop any more: one was expected to be short, and hung."""
        self._forbidden = True


class Watchdog:
    """Ends a run on the event loop that takes longer than `limit` seconds. A thread: the loop itself is blocked then."""

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        # How to end the run, and when it began. One assignment, so that the thread never sees half of it.
        self._run: tuple[Callable[[float], None], float] | None = None
        self._ended = threading.Event()
        # Started now, not at the first run: on a busy machine the first caller would wait for it.
        self._thread = threading.Thread(target=self._watch, name="executor-watchdog", daemon=True)
        self._thread.start()

    def begin(self, interrupt: Callable[[float], None], now: float) -> None:
        """A run begins at `now`; `interrupt(started_before)` ends it."""
        self._run = (interrupt, now)

    def end(self) -> None:
        self._run = None

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_WATCH_EVERY_S):
            run = self._run
            if run is None:
                continue
            interrupt, began = run
            now = self._clock()
            if now - began > self.limit:
                interrupt(now)
