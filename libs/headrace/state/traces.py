"""Traces of requests as the ingress keeps them: JSON lines in a few files of bounded size (its reporting/span_store.py).

A trace is {request_id, trace_id, spans: [{name, service, span_id, parent_id, start_unix_us, duration_us, status, attributes}]}.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.hop.request_ids import request_key
from headrace.state import plain_files

Span = Mapping[str, Any]
_GOOD = frozenset({"OK", "", "UNSET"})
# The newest file in the folder; older ones are FILE.1, FILE.2 and so on.
FILE = "spans.jsonl"


def find(folder: Path, request_id: str) -> dict[str, Any] | None:
    """The newest trace of a request, by its caller's id or by its key, or of a trace id; None: there is none. Raises OSError."""
    return next(_matching(folder, request_id), None)


def find_all(folder: Path, request_id: str) -> dict[str, dict[str, Any]]:
    """As `find`, of each tenant, the newest first: several may have sent the same id. Raises OSError."""
    found: dict[str, dict[str, Any]] = {}
    for trace in _matching(folder, request_id):
        found.setdefault(tenant_of(trace), trace)
    return found


def tenant_of(trace: Mapping[str, Any]) -> str:
    """Whose it is; empty: it does not say."""
    named = (span["attributes"].get("tenant") for span in trace["spans"])
    return next((str(tenant) for tenant in named if tenant), "")


def _matching(folder: Path, request_id: str) -> Iterator[dict[str, Any]]:
    """The newest first. Incomplete lines (a process was killed while it wrote) are skipped."""
    request_id = request_key(request_id)
    wanted = json.dumps(request_id).encode()
    for file in sorted(folder.glob(f"{FILE}*"), key=lambda path: (len(path.name), path.name)):
        try:
            lines = plain_files.read(file).splitlines()
        except FileNotFoundError:
            continue  # the store has just renamed or deleted it
        for line in reversed(lines):
            trace = _read(line) if wanted in line else None
            if trace is not None and request_id in (trace.get("request_id"), trace.get("trace_id")):
                yield trace


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
    for root in (*sorted(roots, key=start_us), *spans):
        stack = [(0, root)]
        while stack:
            depth, span = stack.pop()
            if id(span) in seen:
                continue
            seen.add(id(span))
            found.append((depth, span))
            below = sorted(children[span["span_id"]], key=start_us, reverse=True)
            stack += [(depth + 1, child) for child in below]
    return found


def timeline(trace: Mapping[str, Any]) -> dict[str, Any]:
    """A trace for people: its spans as `ordered`, with times in µs since it began. Raises KeyError, ValueError, TypeError,
    AttributeError: the ingress did not write it."""
    rows = ordered(trace["spans"])
    began = min((start_us(span) for _, span in rows), default=0)
    spans: list[dict[str, Any]] = [
        {
            "name": str(span["name"]),
            "service": str(span["service"]),
            "depth": depth,
            "start_us": start_us(span) - began,
            "us": int(span["duration_us"]),
            "status": "" if span["status"] in _GOOD else str(span["status"]),
            "about": {str(key): str(value) for key, value in span["attributes"].items()},
        }
        for depth, span in rows
    ]
    return {
        "request_id": str(trace["request_id"]),
        "trace_id": str(trace["trace_id"]),
        "tenant": tenant_of(trace),
        "began_us": began,
        "us": max((span["start_us"] + span["us"] for span in spans), default=0),
        "spans": spans,
    }


def start_us(span: Span) -> int:
    """When it began, since 1970."""
    return int(span["start_unix_us"])
