"""Waiting for what other tasks and processes do: as long as a busy machine needs for it."""

import asyncio
import inspect
import time
from collections.abc import Callable


async def until(
    holds: Callable[[], object], within_s: float = 60.0, *, what: str = "it never came to be"
) -> None:
    """Asks `holds`, which may be a coroutine function, again and again. AssertionError: it was not true within the time."""
    end = time.monotonic() + within_s
    while True:
        found = holds()
        if await found if inspect.isawaitable(found) else found:
            return
        assert time.monotonic() < end, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.01)
