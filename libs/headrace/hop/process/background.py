"""Background tasks and threads of a service: a task that ends by an error says so, threads hold up no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

_AGAIN_S = 1.0


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None], name: str, log: Any) -> AsyncIterator[None]:
    """Runs `work` in a task meanwhile. An error of it ends nothing else, but is in the log."""

    def told(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task stopped", task=name, error=f"{type(error).__name__}: {error}")

    task = asyncio.create_task(work)
    task.add_done_callback(told)
    try:
        yield
    finally:
        # A client of a store may take a cancellation for the end of its own timeout, and the work would go on for ever.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_AGAIN_S)


@asynccontextmanager
async def threads(count: int, name: str) -> AsyncIterator[ThreadPoolExecutor]:
    """Threads that are waited for without stopping the event loop: a call of a store that hangs may still be on one."""
    made = ThreadPoolExecutor(count, name)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.shutdown)
