"""Lost backends are tried again until each is well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.executor.failover.group import Lineup, Member


class Recovery:
    """Tries the lost backends of one model, on threads, for as long as any is lost. `tried`: told of each try."""

    def __init__(
        self, lineup: Lineup, tried: Callable[[Member, bool], None], clock: Callable[[], float]
    ) -> None:
        self._lineup = lineup
        self._tried = tried
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins if a backend is lost and nobody tries it yet."""
        if self._lineup.standing.probe_at() is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._recover())

    def stop(self) -> None:
        """Ends it. A try that is under way goes on by itself, and changes nothing."""
        if self._task is not None:
            self._task.cancel()

    async def _recover(self) -> None:
        standing = self._lineup.standing
        while (at := standing.probe_at()) is not None:
            await asyncio.sleep(max(at - self._clock(), 0.0))
            for which in standing.to_probe(self._clock()):
                well = await asyncio.to_thread(self._lineup.recover, which)
                self._tried(self._lineup.members[which], well)
