"""Refuses calls beyond what the server can hold, before any work is spent on them."""

from __future__ import annotations

import asyncio
from types import TracebackType

from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import SERVER_CONCURRENCY

# Long enough for part of what is in flight to finish, short against any deadline.
_RETRY_AFTER_S = 0.05


class Shed:
    """Counts the calls in flight. `close()` refuses all that come later: the service is going away."""

    def __init__(self, service: str, max_concurrent_calls: int) -> None:
        self._service = service
        self._limit = max_concurrent_calls
        self._closed = False
        self._idle: asyncio.Event | None = None
        self.in_flight = 0

    def close(self) -> None:
        """From here on, every new call is answered UNAVAILABLE."""
        self._closed = True

    async def idle(self) -> None:
        """Returns when no call is in flight. For one waiter, after `close`."""
        if self.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def around(self, call: Call) -> Shed:  # noqa: ARG002 - as of Layer
        # The layer itself is the context manager: it needs nothing of the call, only the count.
        return self

    async def __aenter__(self) -> None:
        if self._closed:
            raise Fault(
                Code.UNAVAILABLE,
                Reason.REASON_DRAINING,
                f"{self._service} is shutting down; try another replica.",
                metadata={"service": self._service},
                retry_after_s=0.0,
            )
        if self.in_flight >= self._limit:
            raise SERVER_CONCURRENCY.refusal(
                f"{self._service} serves {self._limit} calls already; try again later.",
                retry_after_s=_RETRY_AFTER_S,
                service=self._service,
                limit=str(self._limit),
            )
        self.in_flight += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.in_flight -= 1
        if self._idle is not None and self.in_flight == 0:
            self._idle.set()
