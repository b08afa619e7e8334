"""Sends the caller's trace context with each call, so that the server's spans belong to the caller's trace."""

from __future__ import annotations

import re
import sys

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SHOWN = 60
Headers = tuple[tuple[str, str], ...]


def headers(traceparent: str | None) -> Headers:
    """W3C trace headers: from `traceparent` if given, otherwise from OpenTelemetry's current span, if there is one.

    Raises ValueError for a text that is not a traceparent.
    """
    if traceparent is None:
        return _current()
    if not _TRACEPARENT.fullmatch(traceparent):
        raise ValueError(
            f"{traceparent[:_SHOWN]!r} is no traceparent; it reads 00-<32 hexadecimal digits>-<16>-<01 if sampled, else 00>, "
            "in lower case, neither number zero"
        )
    return (("traceparent", traceparent),)


def _current() -> Headers:
    # A program that has not imported OpenTelemetry has no span, so the SDK need not import it either.
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
