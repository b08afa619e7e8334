"""What is done now and then, never in a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class PeriodicTasks:
    """Runs coroutine functions again and again; a failure is logged, and the next round tries again."""

    def __init__(self, log: Any, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._log = log
        self._sleep = sleep
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        """Runs `action` each time that `seconds` have passed since it ended."""

        async def repeat() -> None:
            while True:
                await self._sleep(seconds)
                await self.once(action)

        self._tasks.append(asyncio.create_task(repeat()))

    def soon(self, action: Callable[[], Awaitable[None]]) -> None:
        """Runs `action` without waiting for it. On the event loop's thread."""
        task = asyncio.create_task(self.once(action))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def once(self, action: Callable[[], Awaitable[None]]) -> None:
        """Runs `action`; its failure is logged, not raised."""
        try:
            await action()
        except Exception as error:  # noqa: BLE001 - the next round may do better, and the door stays open
            name = getattr(action, "__qualname__", "action")
            self._log.warning("periodic work failed", action=name, error=f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
