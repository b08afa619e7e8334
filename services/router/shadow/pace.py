"""When a shadow may run, and how much at once, so that live calls do not notice: a pure state machine with a given clock.

A shadow runs while no live batch is in flight here, or after it has waited `patience_s`: a process with many batches in flight is
never idle. After each run it rests, so that it is busy for a share `duty` of the time at most. The duty follows what live batches
feel: the times of those that met a running shadow are compared with the times of those that did not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

# Times of live batches that are remembered of each kind, and how many of each are needed to compare them.
_KEPT, _ENOUGH = 256, 20
# Compared at this quantile: high enough to be the tail, low enough to be known from so few.
_QUANTILE = 95
# It begins low, as nobody knows yet what the shadow costs.
_DUTY, _LEAST_DUTY, _MOST_DUTY = 0.03, 0.01, 0.5
_ROWS = 16
_DOWN, _UP = 0.7, 0.01
# A run should take no longer than this share of a live batch's median time, or than that time. Below some rows it takes no less:
# what its calls cost does not depend on the rows.
_RUN_SHARE, _SHORT_RUN_S, _FEWEST_ROWS = 0.5, 0.008, 8


@dataclass(slots=True)
class Pace:
    """Decides; see the module. `max_rows`: in one run. `tolerance`: by how much live batches may become slower."""

    max_rows: int = 64
    tolerance: float = 0.1
    adapt_every_s: float = 0.5
    duty: float = _DUTY
    rows: int = _ROWS
    in_flight: int = 0
    # Odd while stages of shadows run, or of others that keep this pace; changes with the first and after the last of them.
    _turn: int = 0
    _running: int = 0
    _adapted: float = 0.0
    _clean: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _touched: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def begin_anew(self) -> None:
        """Another shadow comes: what the ones before cost says little of it."""
        self.duty, self.rows = min(self.duty, _DUTY), min(self.rows, _ROWS)
        self._touched.clear()

    def live_began(self) -> int:
        """A live batch begins. Returns what `live_ended` must be given."""
        self.in_flight += 1
        return self._turn

    def live_ended(self, turn: int, seconds: float | None) -> None:
        """It ended. `seconds` None: it failed, so its time says nothing."""
        self.in_flight -= 1
        if seconds is None:
            return
        met = turn % 2 == 1 or turn != self._turn
        (self._touched if met else self._clean).append(seconds)

    def stage_began(self) -> None:
        """A stage of a shadow runs from now on."""
        self._running += 1
        if self._running == 1:
            self._turn += 1

    def stage_ended(self) -> None:
        """It does not run any more."""
        self._running -= 1
        if not self._running:
            self._turn += 1

    def ran(self, now: float, seconds: float) -> float:
        """A run of `seconds` (its waits left out) has ended; returns how long to rest."""
        rest = self.rest(now, seconds)
        self._size(seconds)
        return rest

    def rest(self, now: float, seconds: float) -> float:
        """As `ran`, of a run that has its rows from elsewhere."""
        if now - self._adapted >= self.adapt_every_s:
            self._adapted = now
            self._adapt()
        return seconds * (1 / self.duty - 1)

    def slowdown(self) -> float | None:
        """By what factor live batches that met a shadow take longer, less 1; None: too few are known."""
        if len(self._clean) < _ENOUGH or len(self._touched) < _ENOUGH:
            return None
        clean = float(np.percentile(self._clean, _QUANTILE))
        return float(np.percentile(self._touched, _QUANTILE)) / clean - 1 if clean > 0 else None

    def _adapt(self) -> None:
        slower = self.slowdown()
        if slower is None:
            return
        if slower > self.tolerance:
            self.duty = max(self.duty * _DOWN, _LEAST_DUTY)
        else:
            self.duty = min(self.duty + _UP, _MOST_DUTY)

    def _size(self, seconds: float) -> None:
        target = _SHORT_RUN_S
        if self._clean:
            target = max(target, _RUN_SHARE * float(np.median(self._clean)))
        if seconds > target:
            self.rows = max(self.rows // 2, min(_FEWEST_ROWS, self.max_rows))
        elif seconds < target / 2:
            self.rows = min(self.rows * 2, self.max_rows)
