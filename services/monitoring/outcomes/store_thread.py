"""A store's own thread, for an event loop: failures are counted, said once, and healed by the next success."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

P = ParamSpec("P")
R = TypeVar("R")


class StoreThread:
    """`holds`: what the store has, in the plural, as in "outcomes"."""

    def __init__(self, holds: str, log: Log) -> None:
        self._holds = holds
        self._log = log
        # SQLite's connection is one thread's at a time.
        self._thread = ThreadPoolExecutor(1, holds)
        self._failing = False

    async def run(self, what: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Runs a method of the store on its thread. Raises StorageError."""
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._thread, lambda: what(*arguments, **options))
        except StorageError as error:
            if not self._failing:
                self._failing = True
                self._log.error(f"{self._holds} can't be stored", error=str(error))
            raise
        if self._failing:
            self._failing = False
            self._log.info(f"{self._holds} are stored again")
        return done

    async def close(self, last: Callable[[], object]) -> None:
        """Runs `last`, then ends."""
        await asyncio.get_running_loop().run_in_executor(self._thread, last)
        self._thread.shutdown(wait=False)
