"""Waits for a store's answer no longer than is allowed, and does not blame the store for delays of this process."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from services.features.stores.online_store import StoreTimeoutError

T = TypeVar("T")


async def answered(future: asyncio.Future[T], timeout_s: float, store: str) -> T:
    """What `future` gives. Raises what it raises, and StoreTimeoutError, which names `store`, if it is not done in time.

    On a busy machine the event loop may run only after the time has passed, when an answer is there already but has not been
    read. Timers come before sockets and threads, so the loop has to come round once more before the future is given up.
    """
    given_up = False

    def give_up() -> None:
        nonlocal given_up
        if not future.done():
            given_up = future.cancel()

    loop = asyncio.get_running_loop()
    timer = loop.call_later(timeout_s, loop.call_soon, loop.call_soon, give_up)
    try:
        return await future
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if given_up and not (task is not None and task.cancelling()):
            raise StoreTimeoutError(f"{store} did not answer in time") from None
        raise
    finally:
        timer.cancel()
