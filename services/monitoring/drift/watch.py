"""The background task of drift: looks for baselines, and judges every ten seconds. It survives whatever fails in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

from headrace.analysis import Count
from headrace.drift import Baseline
from services.monitoring.drift.monitor import DriftMonitor
from services.monitoring.drift.persistence import Memory, Unsaved
from services.monitoring.drift.ports import Baselines, Series, Version
from services.monitoring.drift.windows import SLICE_S, Ended
from services.monitoring.ports import Log

# How soon a new series gets its baseline.
_STEP_S = 1.0

P = ParamSpec("P")
R = TypeVar("R")
Errors = Callable[[], Awaitable[Mapping[Version, Count]]]


class Watch:
    """Feeds the monitor with baselines and error rates. `wall`: seconds since 1970."""

    def __init__(
        self,
        monitor: DriftMonitor,
        baselines: Baselines,
        errors: Errors | None,
        wall: Callable[[], float],
        threads: Executor,
        log: Log,
        refresh_s: float,
        memory: Memory | None = None,
    ) -> None:
        self._monitor = monitor
        self._baselines = baselines
        self._errors = errors
        self._wall = wall
        self._threads = threads
        self._log = log
        self._refresh_s = refresh_s
        self._memory = memory
        # Series → when its baseline was looked for.
        self._looked: dict[Series, float] = {}
        self._next_look = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        if self._memory is not None:
            self._monitor.restore_concepts(await self._in_thread(self._memory.concepts))
        while True:
            await self.step()
            await asyncio.sleep(_STEP_S)

    async def step(self) -> None:
        """What is due now. Raises nothing."""
        now = self._wall()
        try:
            await self._refresh(now)
            # A clock that was set back does not stop the looks.
            if now >= self._next_look or self._next_look - now > SLICE_S:
                self._next_look = now + SLICE_S
                await self._look(now)
        except Exception as error:  # noqa: BLE001 - stores may raise anything; the next step tries again
            self._log.error("drift could not be judged", error=f"{type(error).__name__}: {error}")

    async def _refresh(self, now: float) -> None:
        waiting = self._monitor.waiting()
        self._looked = {s: t for s, t in self._looked.items() if s in waiting}
        for series in waiting:
            if abs(now - self._looked.get(series, -self._refresh_s)) < self._refresh_s:
                continue
            self._looked[series] = now
            try:
                found = await self._in_thread(self._baselines, series)
            except Exception as error:  # noqa: BLE001 - of one series; the others must get theirs
                self._log.warning(
                    "a baseline could not be looked for",
                    pipeline=series.pipeline,
                    error=f"{type(error).__name__}: {error}",
                )
                continue
            await self._adopt(series, found, now)

    async def _adopt(self, series: Series, found: Baseline | None, now: float) -> None:
        kept: Sequence[Ended] = ()
        windows = self._monitor.windows(series)
        if self._memory is not None and found is not None:
            same = windows is not None and windows.layout.digest == found.layout.digest
            if not same:
                kept = await self._in_thread(self._memory.windows, series, found.layout)
        self._monitor.adopt(series, found, kept, now)

    async def _look(self, now: float) -> None:
        for series in self._monitor.waiting():
            self._monitor.look_at(series, now)
            # Messages in between: a look takes milliseconds.
            await asyncio.sleep(0)
        if self._errors is not None:
            self._monitor.errors(await self._errors(), now)
        await self._save(now)

    async def close(self) -> None:
        """Keeps what was counted, before the process ends. Raises nothing."""
        try:
            await self._save(self._wall(), all_of_it=True)
        except Exception as error:  # noqa: BLE001 - the process ends all the same
            self._log.error("windows of drift were not kept", error=f"{type(error).__name__}: {error}")

    async def _save(self, now: float, *, all_of_it: bool = False) -> None:
        unsaved = [Unsaved(*found) for found in self._monitor.unsaved(all_of_it=all_of_it)]
        if self._memory is not None:
            await self._in_thread(self._memory.save, unsaved, self._monitor.concepts(), now)

    async def _in_thread(self, what: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: what(*arguments, **options))
