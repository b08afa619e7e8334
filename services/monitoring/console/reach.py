"""What the console reaches: calls that block, on threads, with an end, as a dead disk or store must not hold up a page; and what
can't be reached is in the log once while it stays the same, and on the page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

from headrace.slo.servers import ServerError
from services.monitoring.console import faults
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

T = TypeVar("T")
D = TypeVar("D")
Notices: TypeAlias = list[dict[str, str]]
_THREADS = 4
# A store or disk that does not answer for so long is said to be unreachable.
_PATIENCE_S = 4.0
_UNREACHABLE: tuple[type[Exception], ...] = (OSError, StorageError, ServerError)


class Reach:
    """A call that hangs keeps its thread; when all hang, further calls fail at once. `wall`: seconds since 1970."""

    def __init__(self, log: Log, wall: Callable[[], float]) -> None:
        self.log = log
        self.wall = wall
        self._executor = ThreadPoolExecutor(_THREADS, "console")
        self._running = 0
        self._logged: dict[str, str] = {}

    def now(self) -> datetime:
        """The present, in UTC."""
        return datetime.fromtimestamp(self.wall(), UTC)

    def at(self) -> str:
        """The present as ISO 8601 text."""
        return self.now().isoformat()

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`. Raises TimeoutError (an OSError), and what it raises."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                # A few may wait for a thread; who waits longer than that would wait in vain.
                work = self._begin(call)
                return await asyncio.shield(work)
        except TimeoutError:
            raise TimeoutError("it does not answer") from None

    async def need(self, what: str, work: Awaitable[T]) -> T:
        """The result of `work`. Raises Fault: `what` can't be reached."""
        try:
            found = await work
        except _UNREACHABLE as error:
            self.lost(what, error)
            raise faults.unreachable(what) from None
        self._found(what)
        return found

    async def attempt(
        self,
        what: str,
        work: Awaitable[T],
        default: D,
        notices: Notices,
        said: str = "",
        errors: tuple[type[Exception], ...] = _UNREACHABLE,
    ) -> T | D:
        """The result of `work`; `default` and one more notice if `what` can't be reached. `said`: the notice."""
        try:
            found = await work
        except errors as error:
            self.lost(what, error)
            usual = f"{what[0].upper()}{what[1:]} can't be reached. What serves goes on; nothing can be changed there now."
            one = notice("watch", said) if said else notice("bad", usual)
            if one not in notices:
                notices.append(one)
            return default
        self._found(what)
        return found

    def lost(self, what: str, error: Exception) -> None:
        """Logs that it can't be reached."""
        text = f"{type(error).__name__}: {error}"
        if self._logged.get(what) != text:
            self.log.warning("the console can't reach something", what=what, error=text)
        self._logged[what] = text

    def _found(self, what: str) -> None:
        if self._logged.pop(what, None) is not None:
            self.log.info("the console reaches it again", what=what)

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


def notice(level: str, text: str) -> dict[str, str]:
    """A sentence at the top of a page."""
    return {"level": level, "text": text}
