"""Copies answered batches to shadows: a cheap offer in the live path, and one task that runs what was offered.

A shadow runs while no live batch is in flight here, or after it has waited `patience_s`: a process with many batches in flight is
never idle. After each run it rests, so that it is busy for a share `duty` of the time at most. The duty follows what live batches
feel: the times of those that met a running shadow are compared with the times of those that did not.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from headrace.hop.errors import Fault
from services.router.pipelines import Served
from services.router.routes.observer import Ended, chosen_rows, size_of
from services.router.routes.route import Route
from services.router.routes.run import RouteResult
from services.router.shadow.metrics import ShadowMetrics
from services.router.shadow.queue import Copied, ShadowQueue
from services.router.shadow.run import Portion, ShadowObserver, Turn, portions, run_portion
from services.router.shadow.settings import ShadowSettings
from services.router.ticks.counters import Part

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
    """When a shadow may run, and how much at once, so that live calls do not notice: a state machine; the clock is passed in.

    `max_rows`: in one run. `tolerance`: by how much live batches may become slower.
    """

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


class Shadows:
    """An observer of live runs (`routes.observer.RunObserver`). `clock`: monotonic seconds; `log`: a structlog logger."""

    def __init__(
        self,
        settings: ShadowSettings,
        metrics: ShadowMetrics,
        clock: Callable[[], float],
        log: Any,
        observer: ShadowObserver | None = None,
    ) -> None:
        """`observer`: sees each answer of a shadow."""
        self._patience_s = settings.patience_s
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._observer = observer
        self._queue = ShadowQueue(settings.max_waiting_rows, settings.max_waiting_bytes)
        self._came = asyncio.Event()
        # Set while no live batch is in flight.
        self._idle = asyncio.Event()
        self._idle.set()
        # When the last live batch began.
        self.last_live = -math.inf
        self.pace = Pace(max_rows=settings.max_rows)
        # Pipeline → release and arm of the shadow that ran last.
        self._ran: dict[str, tuple[int, str]] = {}

    def begin(self, served: Served, route: Route, part: Part, began: float) -> Ended:
        """A live run begins; what is returned must be called when it ends. Neither raises."""
        turn = self.pace.live_began()
        self.last_live = began
        self._idle.clear()

        def ended(result: RouteResult | BaseException) -> None:
            seconds = self._clock() - began
            self.pace.live_ended(turn, seconds if isinstance(result, RouteResult) else None)
            if not self.pace.in_flight:
                self._idle.set()
            if isinstance(result, RouteResult) and served.shadow is not None:
                self._offer(served, route, part, result)

        return ended

    async def run(self) -> None:
        """Runs what was offered, until cancelled."""
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                # Behind the answers that are being sent.
                await asyncio.sleep(0)
                while len(self._queue):
                    copied = self._queue.take(self.pace.rows)
                    await self._run(copied)
        finally:
            self.discard()

    def discard(self) -> None:
        """Drops all that waits."""
        while len(self._queue):
            for left in self._queue.take(1):
                self._drop(left, "stopped")

    def _offer(self, served: Served, route: Route, part: Part, result: RouteResult) -> None:
        shadow, batch = served.shadow, part.batch
        if shadow is None or shadow.share <= 0 or shadow.route.name == route.name:
            return
        try:
            rows = chosen_rows(batch.rows.request_ids, shadow.share, shadow.salt)
            if batch.errors:
                # Rows that came with an error were not asked of the live arm either.
                wanted = np.arange(len(batch)) if rows is None else rows
                rows = wanted[~np.isin(wanted, list(batch.errors))]
            count = len(batch) if rows is None else len(rows)
            if not count:
                return
            # The message's own memory, which is kept as a whole however few rows are copied.
            size = size_of(batch.columns.values()) + size_of(result.columns.values())
            copied = Copied(shadow, route, part, result, rows, size)
            refusal = self._queue.refusal(count, size)
            if refusal:
                self._drop(copied, refusal)
                return
            self._queue.put(copied)
            self._came.set()
        except Exception as error:  # noqa: BLE001 - nothing of a shadow may fail a live call
            self._log.error("a batch was not copied to its shadow", error=f"{type(error).__name__}: {error}")

    async def _run(self, copied: Sequence[Copied]) -> None:
        """All rows of copied batches, some at a time. Raises nothing but CancelledError."""
        left, first = sum(map(len, copied)), copied[0]
        try:
            for portion in portions(copied, self.pace.rows):
                rest = await self._run_portion(portion)
                left -= len(portion)
                await asyncio.sleep(rest)
        except asyncio.CancelledError:
            self._drop(first, "stopped", left)
            raise
        except Exception as error:  # noqa: BLE001 - the task must go on with the next batch
            self._drop(first, "error", left)
            told = error.message if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
            pipeline, arm = first.live.plan.pipeline.name, first.shadow.route.name
            self._log.error("a shadow did not run", pipeline=pipeline, arm=arm, error=told)

    async def _run_portion(self, portion: Portion) -> float:
        """Runs some rows; returns how long to rest then."""
        pace, first = self.pace, portion.copied[0]
        pipeline, shadow = first.live.plan.pipeline.name, (first.shadow.release, first.shadow.route.name)
        if self._ran.get(pipeline) != shadow:
            self._ran[pipeline] = shadow
            pace.begin_anew()
        gate = partial(self.gate, self._clock() + self._patience_s)
        turn = Turn(gate, pace.stage_began, pace.stage_ended, self._clock)
        failed = await run_portion(portion, turn, self._clock, self._observer)
        self._metrics.ran(pipeline, len(portion), failed)
        rest = pace.ran(self._clock(), turn.worked)
        self._metrics.duty.set(pace.duty)
        return rest

    async def gate(self, ends: float) -> None:
        """Returns when no live batch is in flight, or at `ends`."""
        while self.pace.in_flight:
            left = ends - self._clock()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._idle.wait()
            except TimeoutError:
                return

    def _drop(self, copied: Copied, reason: str, rows: int | None = None) -> None:
        count = len(copied) if rows is None else rows
        self._metrics.dropped(copied.live.plan.pipeline.name, reason, count)
