"""Calls that block, on threads, with an end: a dead disk or store must not hold up a page, nor the service beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_THREADS = 4
# A store or disk that does not answer for so long is said to be away.
_PATIENCE_S = 4.0


class Threads:
    """A call that hangs keeps its thread; when all hang, further calls fail at once."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, "console")
        self._running = 0

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`. Raises TimeoutError (an OSError), and what it raises."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                # A few may wait for a thread; who waits longer than that would wait in vain.
                work = self._begin(call)
                return await asyncio.shield(work)
        except TimeoutError:
            raise TimeoutError("it does not answer") from None

    def _begin(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._running >= 4 * _THREADS:
            raise TimeoutError
        self._running += 1
        work = asyncio.get_running_loop().run_in_executor(self._executor, call)
        work.add_done_callback(self._ended)
        return work

    def _ended(self, work: asyncio.Future[T]) -> None:
        self._running -= 1
        # Its caller may have gone: an exception that nobody asks for would be reported as a bug.
        if not work.cancelled():
            work.exception()

    def close(self) -> None:
        """Takes no more work."""
        self._executor.shutdown(wait=False, cancel_futures=True)
