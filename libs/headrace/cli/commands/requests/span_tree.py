"""The trace of one request, drawn as a tree with times and bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from headrace.state.traces import Span, ordered, start_us, tenant_of

_BAR = 32
_GOOD = frozenset({"OK", "", "UNSET"})


def bar(start_us: int, duration_us: int, begin_us: int, total_us: int, width: int = _BAR) -> str:
    """A bar for a span within the request: `width` characters, at least one of them filled."""
    total = max(total_us, 1)
    left = min(max(start_us - begin_us, 0) * width // total, width - 1)
    length = max(round(min(duration_us, total) * width / total), 1)
    length = min(length, width - left)
    return " " * left + "█" * length + " " * (width - left - length)


def draw(trace: Mapping[str, Any]) -> Table:
    """A table with one line per span."""
    rows = ordered(trace["spans"])
    begin = min((start_us(span) for _, span in rows), default=0)
    end = max((start_us(span) + int(span["duration_us"]) for _, span in rows), default=0)
    of = f"   tenant {tenant}" if (tenant := tenant_of(trace)) else ""
    title = f"request {trace['request_id']}{of}   trace {trace['trace_id']}   {milliseconds(end - begin)}"
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1), pad_edge=False
    )
    table.add_column("span", no_wrap=True)
    table.add_column("service", no_wrap=True)
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for depth, span in rows:
        duration = int(span["duration_us"])
        good = span["status"] in _GOOD
        table.add_row(
            Text("  " * depth + str(span["name"]), style="" if good else "red"),
            str(span["service"]),
            milliseconds(start_us(span) - begin),
            milliseconds(duration),
            Text(bar(start_us(span), duration, begin, end - begin), style="cyan" if good else "red"),
            Text(_details(span), style="dim" if good else "red"),
        )
    return table


def _details(span: Span) -> str:
    status = [] if span["status"] in _GOOD else [str(span["status"])]
    return " ".join(status + [f"{key}={value}" for key, value in span["attributes"].items()])


def milliseconds(us: int) -> str:
    """Microseconds as text, to the microsecond."""
    return f"{us / 1000:.3f} ms"
