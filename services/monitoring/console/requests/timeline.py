"""A trace as rows of a timeline. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.state.traces import ordered, start_us

_GOOD = frozenset({"OK", "", "UNSET"})
# What a page shows of one trace; a request has a few dozen spans.
_MOST = 300
# A bar is seen even if its span took next to nothing, in per cent of the width.
_THINNEST = 0.4


def timeline(trace: Mapping[str, Any]) -> dict[str, Any]:
    """The spans as a tree with bars: `left` and `width` in per cent of the request, times in ms. Raises KeyError, ValueError,
    TypeError, AttributeError: it was not written by the ingress."""
    rows = ordered(trace["spans"])
    begin = min((start_us(span) for _, span in rows), default=0)
    end = max((start_us(span) + int(span["duration_us"]) for _, span in rows), default=0)
    whole = max(end - begin, 1)
    return {
        "trace_id": str(trace["trace_id"]),
        "began_us": begin,
        "total_ms": (end - begin) / 1000,
        "spans": [_row(depth, span, begin, whole) for depth, span in rows[:_MOST]],
        "left_out": max(len(rows) - _MOST, 0),
    }


def _row(depth: int, span: Mapping[str, Any], begin: int, whole: int) -> dict[str, Any]:
    start, duration = start_us(span) - begin, int(span["duration_us"])
    width = max(100 * min(duration, whole) / whole, _THINNEST)
    return {
        "name": str(span["name"]),
        "service": str(span["service"]),
        "depth": min(depth, 6),
        "start_ms": start / 1000,
        "ms": duration / 1000,
        "left": round(min(100 * start / whole, 100 - width), 2),
        "width": round(width, 2),
        "good": span["status"] in _GOOD,
        "status": str(span["status"]),
        "about": {str(key): str(value) for key, value in span["attributes"].items()},
    }
