"""Turns what a handler raises into what a caller may see."""

from __future__ import annotations

import asyncio
import secrets
from types import TracebackType
from typing import Any

from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.server.layers.report import named


class Errors:
    """A `Fault` passes. Anything else is a defect: logged whole under an id, and only the id is told."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def around(self, call: Call) -> _Around:
        return _Around(self._log, call)


class _Around:
    __slots__ = ("_call", "_log")

    def __init__(self, log: Any, call: Call) -> None:
        self._log = log
        self._call = call

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Fault) or not _is_defect(error):
            return
        # Not a counter: two processes must not give the same id.
        identity = secrets.token_hex(6)
        self._log.error(
            "call failed unexpectedly",
            method=self._call.method,
            error_id=identity,
            exc_info=error,
            **named(self._call),
        )
        raise Fault(
            Code.INTERNAL,
            Reason.REASON_INTERNAL,
            f"An internal error occurred; the operator finds it in the log as {identity}.",
            metadata={"error_id": identity},
        ) from error


def _is_defect(error: BaseException) -> bool:
    if not isinstance(error, asyncio.CancelledError):
        return isinstance(error, Exception)
    # A cancellation that nobody asked of this task leaked out of something it awaited. Let through, grpc.aio
    # would end the handler without a status and the caller would wait for its whole deadline.
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0
