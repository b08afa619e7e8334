"""Callers that disconnect: the work for them ends soon after.

In ASGI, `receive` reports a disconnect. uvicorn's `receive` waits for it. pyvoy's, once the body is complete, returns at once
and says whether the caller is still connected. That costs a switch to Envoy's thread (measured: 13,700 calls per second use a
whole core). So no task calls it in a loop. Instead, requests that take long are checked here at intervals, and only a few at a
time, so that the checks stay cheap even with many slow requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from services.ingress.protocols.asgi import Receive

# Most requests end before their first check.
_EVERY_S = 0.1
_SWEEP_S = 0.05
_MOST = 32
_GONE = "http.disconnect"


class Departures:
    """Checks the callers of one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The callers to check, longest waiting first.
        self._watches: dict[Watch, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, receive: Receive) -> Watch:
        """For `with`, around the work of the running task. The task is cancelled when the caller disconnects.

        Catches only that cancellation; then `gone` is true. `receive`: its body has been read completely.
        """
        task = asyncio.current_task()
        assert task is not None, "requests are served in tasks"
        watch = Watch(self, receive, task.cancel)
        self.add(watch)
        return watch

    def patient(self, receive: Receive) -> Receive:
        """A `receive` that, after the end of the body, waits until the caller disconnects, even if the server's own does not."""
        whole = False

        async def event() -> Any:
            nonlocal whole
            if whole:
                await self._departure(receive)
                return {"type": _GONE}
            found = await receive()
            whole = not found.get("more_body", False)
            return found

        return event

    async def _departure(self, receive: Receive) -> None:
        left = asyncio.Event()
        watch = Watch(self, receive, left.set)
        self.add(watch)
        try:
            await left.wait()
        finally:
            self.drop(watch)

    def add(self, watch: Watch) -> None:
        """Begins to check this one."""
        watch.due = self._clock() + _EVERY_S
        self._watches[watch] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def drop(self, watch: Watch) -> None:
        """Stops checking this one. It may be dropped more than once."""
        self._watches.pop(watch, None)
        watch.over = True

    def _sweep(self) -> None:
        now = self._clock()
        due: list[Watch] = []
        for watch in self._watches:
            if watch.due > now or len(due) == _MOST:
                break
            due.append(watch)
        for watch in due:
            del self._watches[watch]
            asyncio.ensure_future(watch.receive()).add_done_callback(watch.answered)
        self._timer = None
        if self._watches:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)


class Watch:
    """One caller that is being served. `leave` is called once if it disconnects during that time."""

    due = 0.0
    gone = over = False

    def __init__(self, departures: Departures, receive: Receive, leave: Callable[[], object]) -> None:
        self._departures = departures
        self._leave = leave
        self.receive: Any = receive

    def answered(self, answer: asyncio.Future[Any]) -> None:
        """Handles the server's answer to a check."""
        if self.over or answer.cancelled() or answer.exception() is not None:
            return
        if answer.result()["type"] == _GONE:
            self.gone = True
            self._leave()
        else:
            self._departures.add(self)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._departures.drop(self)
        if not self.gone:
            return False
        task = asyncio.current_task()
        # The task may also have been cancelled for another reason (the server stops). That cancellation continues.
        return task is not None and task.uncancel() == 0 and kind is asyncio.CancelledError
