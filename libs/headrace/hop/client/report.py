"""Report: counts a call and its time, retries included."""

from __future__ import annotations

import time
from typing import Any

from headrace.hop.client.observer import Observer
from headrace.hop.client.outgoing import Layer, Next, Outgoing
from headrace.hop.errors import Code, Fault


def report(observer: Observer) -> Layer:
    """Tells the observer how each call ended."""

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            began = time.monotonic()
            code = Code.CANCELLED  # unless it ends otherwise
            try:
                reply = await call_next(out)
                code = Code.OK
                return reply
            except Fault as fault:
                code = fault.code
                raise
            finally:
                observer.finished(out.method.name, code, time.monotonic() - began, out.rows)

        return call

    return layer
