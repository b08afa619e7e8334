"""`headrace trace REQUEST_ID`: where one request's time went."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from headrace.cli.commands.requests import span_tree
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.state import traces

# The ingress writes its spans every half second.
_PATIENCE_S = 1.5


def trace(
    request_id: Annotated[str, typer.Argument(help="A request id, or a trace id.")], home: Home = DEFAULT_HOME
) -> None:
    """Draw a request's spans as a tree with times; of each tenant that has sent this id."""
    layout = place(home)
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + _PATIENCE_S
    while not found and time.monotonic() < deadline:
        found = traces.find_all(layout.traces, request_id)
        if not found:
            time.sleep(0.1)
    if not found:
        fail(
            f"no trace of {request_id!r} in {layout.traces}. Kept are requests that were sampled, failed or slow, "
            "until newer ones push them out. To have one kept, send it with a sampled `traceparent`, as "
            "`headrace predict` does"
        )
    for one in found.values():
        out.print(span_tree.draw(one))
