"""Gives every call a deadline, refuses what cannot make it, and stops what did not."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Container
from types import TracebackType

from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason


class Deadline:
    """A call without a deadline gets `default_timeout_s`; not a stream, which may be meant to stay open."""

    def __init__(self, default_timeout_s: float, min_budget_s: float, streams: Container[str] = ()) -> None:
        self._default = default_timeout_s
        self._minimum = min_budget_s
        self._streams = streams

    def around(self, call: Call) -> _Around:
        return _Around(self, call)

    def budget(self, call: Call) -> float:
        """Seconds that the call may take; settles its deadline. Raises Fault DEADLINE_EXCEEDED if too few."""
        if call.deadline == math.inf:
            if call.method in self._streams:
                return math.inf
            call.deadline = time.monotonic() + self._default
            return self._default
        remaining = call.remaining()
        if remaining < self._minimum:
            raise Fault(
                Code.DEADLINE_EXCEEDED,
                Reason.REASON_DEADLINE_PASSED,
                f"{remaining * 1000:.2f} ms were left on arrival, too few to begin; allow a longer deadline.",
                metadata={"remaining_us": str(round(remaining * 1e6))},
            )
        return remaining


class _Around:
    __slots__ = ("_call", "_layer", "_timeout")

    def __init__(self, layer: Deadline, call: Call) -> None:
        self._layer = layer
        self._call = call
        self._timeout: asyncio.Timeout | None = None

    async def __aenter__(self) -> None:
        budget = self._layer.budget(self._call)
        if budget != math.inf:
            # Relative, because the loop's clock need not be `time.monotonic`.
            self._timeout = asyncio.timeout(budget)
            await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timeout is None:
            return
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as expired:
            # Only the timeout's own expiry is raised here; a handler's TimeoutError came in as `error`.
            raise Fault(
                Code.DEADLINE_EXCEEDED,
                Reason.REASON_DEADLINE_PASSED,
                "The deadline passed while the call was served.",
            ) from expired
