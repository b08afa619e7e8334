"""`headrace security`: refused credentials, forbidden requests and the extraction guard's events."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from headrace.cli.commands.audit.place import record
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, out, place
from headrace.cli.tables import headed_table

_SHOWN = ("time", "kind", "client", "tenant", "key", "method", "request_id")
# All addresses of a summary, up to a thousand: --json has them.
_HIDDEN = (*_SHOWN, "clients", "salt")


def security(
    home: Home = DEFAULT_HOME,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last.")] = 50,
    kind: Annotated[str | None, typer.Option(help="Only events of this kind.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only those of this tenant.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the last security events: refused credentials, forbidden requests, tenants that ask too many different things.

    A `summary` tells of the events of a second that were too many for a line each.
    """
    path = place(home).security_log
    if path.parent.is_dir():
        # These events are a part of the audit, so that they are read is recorded.
        record(place(home), "read", "headrace security", source="security")
    found: deque[dict[str, Any]] = deque()
    for file in _newest_first(path):
        wanted = (event for event in _events(file) if _wanted(event, kind, tenant))
        found.extendleft(reversed(deque(wanted, maxlen=lines - len(found))))
        if len(found) == lines:
            break
    if not found:
        err.print("no such events yet", style="dim")
        return
    if as_json:
        for event in found:
            print(json.dumps(event, separators=(",", ":")))
        return
    table = headed_table(*_SHOWN, "more")
    for event in found:
        more = ", ".join(f"{k}={_text(v)}" for k, v in event.items() if k not in _HIDDEN)
        table.add_row(*(_plain(event.get(column, "")) for column in _SHOWN), _plain(more))
    out.print(table)


def _newest_first(path: Path) -> list[Path]:
    """The current file, then the rotated ones."""
    older = (p for p in path.parent.glob(f"{path.name}.*") if p.suffix[1:].isdigit())
    return [path, *sorted(older, key=lambda p: int(p.suffix[1:]))]


def _events(file: Path) -> Iterator[dict[str, Any]]:
    """The events of a file, oldest first; lines that are not events are skipped."""
    try:
        lines = file.open("rb")
    except FileNotFoundError:
        return
    with lines:
        for line in lines:
            try:
                event = json.loads(line.decode("utf-8", "replace"))
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def _wanted(event: dict[str, Any], kind: str | None, tenant: str | None) -> bool:
    if tenant is not None and event.get("tenant") != tenant:
        return False
    return kind is None or event.get("kind") == kind or kind in event.get("events", {})


def _plain(value: object) -> Text:
    """As text without markup or control characters: a part of it was sent by strangers."""
    return Text("".join(c if c.isprintable() else "?" for c in str(value)))


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}:{v}" for k, v in value.items())
    return str(value)
