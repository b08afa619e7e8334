"""The background task of drift: what each arm runs, and every ten seconds a look at its newest rows. It survives any failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from headrace.analysis import Count
from services.monitoring.database.facts import Facts
from services.monitoring.drift import persistence
from services.monitoring.drift.monitor import DriftMonitor, Look
from services.monitoring.drift.ports import Baselines, NewestRows, Series, Version
from services.monitoring.ports import Log

STEP_S = 1.0
LOOK_S = 10.0
# A release may have brought another model.
REFRESH_S = 30.0
# Looks take no more than this share of the time: with many arms, or on a busy machine, each is looked at less often.
_SHARE = 0.25

P = ParamSpec("P")
R = TypeVar("R")
Errors = Callable[[], Awaitable[Mapping[Version, Count]]]


class Watch:
    """`wall`: seconds since 1970."""

    def __init__(
        self,
        monitor: DriftMonitor,
        baselines: Baselines,
        newest: NewestRows,
        errors: Errors | None,
        wall: Callable[[], float],
        threads: Executor,
        log: Log,
        facts: Facts,
    ) -> None:
        self._monitor = monitor
        self._baselines = baselines
        self._newest = newest
        self._errors = errors
        self._wall = wall
        self._threads = threads
        self._log = log
        self._facts = facts
        self._next_refresh = self._next_look = 0.0
        self._saved: Mapping[Version, Any] = {}

    async def run(self) -> None:
        """Until cancelled."""
        await self._attempt("what drift left before can't be read; it begins anew", self._restore())
        while True:
            await self.step()
            await asyncio.sleep(STEP_S)

    async def step(self) -> None:
        """What is due now. Raises nothing."""
        now = self._wall()
        # A clock that was set back does not stop the looks.
        if now >= self._next_refresh or self._next_refresh - now > REFRESH_S:
            self._next_refresh = now + REFRESH_S
            await self._attempt("what arms run could not be read", self._refresh())
        if now >= self._next_look or self._next_look - now > LOOK_S:
            began = time.monotonic()
            await self._look(now)
            self._next_look = now + max(LOOK_S, (time.monotonic() - began) / _SHARE)

    async def _restore(self) -> None:
        self._monitor.restore(await self._in_thread(self._facts.query, persistence.load))

    async def _refresh(self) -> None:
        self._monitor.follow(await self._in_thread(self._baselines))

    async def _look(self, now: float) -> None:
        for series, judged in self._monitor.judged().items():
            await self._attempt("drift could not be judged", self._judge(series, judged, now))
        if self._errors is not None:
            await self._attempt("error rates could not be judged", self._judge_errors(self._errors, now))
        states = self._monitor.states()
        if states != self._saved:
            await self._attempt("what drift knows could not be stored", self._save(states))

    async def _judge(self, series: Series, judged: Look, now: float) -> None:
        rows = await self._newest(series, judged.followed, now, judged.stored)
        self._monitor.judge(series, rows, now)

    async def _judge_errors(self, errors: Errors, now: float) -> None:
        self._monitor.errors(await errors(), now)

    async def _save(self, states: Mapping[Version, Any]) -> None:
        await self._in_thread(self._facts.write, lambda connection: persistence.save(connection, states))
        self._saved = states

    async def _attempt(self, failed: str, what: Awaitable[None]) -> None:
        try:
            await what
        except Exception as error:  # noqa: BLE001 - stores may raise anything; the next step tries again
            self._log.error(failed, error=f"{type(error).__name__}: {error}")

    async def _in_thread(self, what: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: what(*arguments, **options))
