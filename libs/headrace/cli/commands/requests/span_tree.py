"""The trace of one request, drawn as a tree with times and bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from headrace.state.traces import timeline

_BAR = 32


def bar(start_us: int, duration_us: int, total_us: int, width: int = _BAR) -> str:
    """A bar for a span within the request: `width` characters, at least one of them filled."""
    total = max(total_us, 1)
    left = min(max(start_us, 0) * width // total, width - 1)
    length = max(round(min(duration_us, total) * width / total), 1)
    length = min(length, width - left)
    return " " * left + "█" * length + " " * (width - left - length)


def draw(trace: Mapping[str, Any]) -> Table:
    """A table with one line per span."""
    found = timeline(trace)
    of = f"   tenant {found['tenant']}" if found["tenant"] else ""
    title = f"request {found['request_id']}{of}   trace {found['trace_id']}   {milliseconds(found['us'])}"
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1), pad_edge=False
    )
    table.add_column("span", no_wrap=True)
    table.add_column("service", no_wrap=True)
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for span in found["spans"]:
        style = "red" if span["status"] else ""
        details = [f"{key}={value}" for key, value in span["about"].items()]
        table.add_row(
            Text("  " * span["depth"] + span["name"], style),
            span["service"],
            milliseconds(span["start_us"]),
            milliseconds(span["us"]),
            Text(bar(span["start_us"], span["us"], found["us"]), style or "cyan"),
            Text(" ".join([span["status"], *details]).strip(), style or "dim"),
        )
    return table


def milliseconds(us: int) -> str:
    """Microseconds as text, to the microsecond."""
    return f"{us / 1000:.3f} ms"
