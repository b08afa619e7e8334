"""Tells others of changes, without making the analyser wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from services.monitoring.rollouts.ports import Listener, Log, RolloutEvent

# More wait only if a webhook hangs for hours.
MOST_WAITING = 100


class Notices:
    """Delivers events to listeners in order, each at its own pace. A listener that fails misses the event; that is logged."""

    def __init__(
        self, listeners: Mapping[str, Listener], threads: Executor, log: Log, failed: Callable[[str], None]
    ) -> None:
        """`listeners`: name (`audit`, `webhook`) → whom to call. `threads`: where; needs a thread for each."""
        self._listeners = listeners
        self._queues: dict[str, asyncio.Queue[RolloutEvent]] = {
            name: asyncio.Queue(MOST_WAITING) for name in listeners
        }
        self._threads = threads
        self._log = log
        self._failed = failed

    def tell(self, event: RolloutEvent) -> None:
        """Hands an event over; never waits."""
        for name, queue in self._queues.items():
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._failed("dropped")
                self._log.error(
                    "a rollout's change is not told: too many wait", listener=name, **event.to_json()
                )

    async def run(self) -> None:
        """Delivers until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self._listeners:
                group.create_task(self._deliver(name))

    async def drained(self) -> None:
        """Waits until all events were delivered."""
        for queue in self._queues.values():
            await queue.join()

    async def _deliver(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            event = await self._queues[name].get()
            try:
                await loop.run_in_executor(self._threads, self._listeners[name], event)
            except Exception as error:  # noqa: BLE001 - a listener may raise anything, and must not stop the others
                self._failed(name)
                self._log.error(
                    "a rollout's change could not be told",
                    listener=name,
                    error=repr(error),
                    **event.to_json(),
                )
            finally:
                self._queues[name].task_done()
