"""What a server reports of a failed call: on its span, and as an error that the caller may see. (`metrics.py` counts.)"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason, reason_name
from headrace.hop.metrics import named

if TYPE_CHECKING:
    from headrace.hop.process.traces import Traces
    from headrace.hop.server.stack import Handler, Serve


class Errors:
    """A `Fault` passes. Any other exception is a defect: it is logged under an id, and the caller gets only the id."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def seen(self, call: Call, error: BaseException) -> BaseException:
        """What the caller sees of an error."""
        if isinstance(error, Fault) or not _is_defect(error):
            return error
        # Not a counter: two processes must not create the same id.
        identity = secrets.token_hex(6)
        self._log.error(
            "call failed unexpectedly",
            method=call.method,
            error_id=identity,
            exc_info=error,
            **named(call),
        )
        return Fault(
            Code.INTERNAL,
            Reason.REASON_INTERNAL,
            f"An internal error occurred; the operator finds it in the log as {identity}.",
            metadata={"error_id": identity},
        )


def _is_defect(error: BaseException) -> bool:
    if not isinstance(error, asyncio.CancelledError):
        return isinstance(error, Exception)
    # This task was not cancelled itself; the CancelledError came from something it awaited. If it passed, grpc.aio
    # would end the handler without a status, and the caller would wait until its deadline.
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


class Trace:
    """Writes the reason of a failure and the servicer's notes on the call's span, which OpenTelemetry's interceptor began."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces

    def around(self, serve: Serve) -> Serve:
        """The same, in a span."""

        async def traced(call: Call, handler: Handler, request: Any) -> Any:
            try:
                return await serve(call, handler, request)
            except Fault as fault:
                self._traces.mark(fault.code.value, reason_name(fault.reason), fault.message)
                raise
            finally:
                if call.notes:
                    self._traces.note(call.notes)

        return traced
