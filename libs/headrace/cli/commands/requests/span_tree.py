"""The trace of one request: found in the ingress's span store and drawn as a tree with times and bars."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

_BAR = 32
_GOOD = frozenset({"OK", "", "UNSET"})
Span = Mapping[str, Any]


def find(folder: Path, request_id: str) -> dict[str, Any] | None:
    """The newest trace of a request (or of a trace id); None if the store has none.

    Incomplete lines (a process was killed while it wrote) are skipped.
    """
    wanted = json.dumps(request_id).encode()
    for segment in sorted(folder.glob("*.jsonl"), reverse=True):
        try:
            lines = segment.read_bytes().splitlines()
        except FileNotFoundError:
            continue  # the store has just deleted it
        for line in reversed(lines):
            trace = _read(line) if wanted in line else None
            if trace is not None and request_id in (trace.get("request_id"), trace.get("trace_id")):
                return trace
    return None


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        trace = json.loads(line)
    except ValueError:
        return None
    return trace if isinstance(trace, dict) and isinstance(trace.get("spans"), list) else None


def ordered(spans: Sequence[Span]) -> list[tuple[int, Span]]:
    """The spans as a tree, depth first, each with its depth; children by start. Each span comes exactly once."""
    by_id = {span["span_id"]: span for span in spans}
    children: dict[str, list[Span]] = defaultdict(list)
    roots = []
    for span in spans:
        parent = span["parent_id"]
        if parent in by_id and parent != span["span_id"]:
            children[parent].append(span)
        else:
            roots.append(span)
    found: list[tuple[int, Span]] = []
    seen: set[int] = set()
    # Spans that are their own ancestors (we never write such) are drawn as roots, rather than not at all.
    for root in (*sorted(roots, key=_start), *spans):
        stack = [(0, root)]
        while stack:
            depth, span = stack.pop()
            if id(span) in seen:
                continue
            seen.add(id(span))
            found.append((depth, span))
            below = sorted(children[span["span_id"]], key=_start, reverse=True)
            stack += [(depth + 1, child) for child in below]
    return found


def _start(span: Span) -> int:
    return int(span["start_unix_us"])


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
    begin = min((_start(span) for _, span in rows), default=0)
    end = max((_start(span) + int(span["duration_us"]) for _, span in rows), default=0)
    title = f"request {trace['request_id']}   trace {trace['trace_id']}   {milliseconds(end - begin)}"
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
            milliseconds(_start(span) - begin),
            milliseconds(duration),
            Text(bar(_start(span), duration, begin, end - begin), style="cyan" if good else "red"),
            Text(_details(span), style="dim" if good else "red"),
        )
    return table


def _details(span: Span) -> str:
    status = [] if span["status"] in _GOOD else [str(span["status"])]
    return " ".join(status + [f"{key}={value}" for key, value in span["attributes"].items()])


def milliseconds(us: int) -> str:
    """Microseconds as text, to the microsecond."""
    return f"{us / 1000:.3f} ms"
