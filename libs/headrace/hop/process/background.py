"""Background tasks of a service: one that ends by an error says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


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
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
