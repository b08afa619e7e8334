"""`headrace audit export`: the entries as JSON lines, with the lines that tell of persons if they are asked for."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from headrace.audit.access import SCOPE
from headrace.audit.reader import Entry
from headrace.cli.commands.audit.place import audit_of, damage_told, key_of, reader_of, reads_as
from headrace.cli.commands.audit.verify import Trusted
from headrace.cli.console import DEFAULT_HOME, Home, command, err


def export(
    home: Home = DEFAULT_HOME,
    trusted: Trusted = None,
    source: Annotated[
        str,
        typer.Option(
            help="Only entries of this journal: models, releases, deployments, shared, security, audit."
        ),
    ] = "",
    first: Annotated[int, typer.Option("--from", min=0, help="The first entry.")] = 0,
    persons: Annotated[bool, typer.Option("--persons", help="With the lines that tell of persons.")] = False,
    out: Annotated[
        typer.FileTextWrite, typer.Option("--out", help="File to write; - for the terminal.")
    ] = "-",  # type: ignore[assignment]  # typer opens it
) -> None:
    """Write the entries that the checkpoint covers as JSON lines, one each."""
    audit = audit_of(home)
    reader, count = reader_of(audit, key_of(audit, trusted)), 0
    with damage_told():
        for entry in reader.entries(reads_as(), [SCOPE], first=first, source=source, persons=persons):
            out.write(json.dumps(_told(entry), separators=(",", ":")) + "\n")
            count += 1
    err.print(f"{count} entries; check them by: {command()} audit verify", style="dim", markup=False)


def _told(entry: Entry) -> dict[str, str | int]:
    record = entry.record
    told = {
        "source": record.source,
        "at": record.at,
        "kind": record.kind,
        "line": entry.line,
        "commitment": "" if entry.line else record.commitment,
        "why": record.why,
    }
    return {"index": entry.index, **{key: value for key, value in told.items() if value}}
