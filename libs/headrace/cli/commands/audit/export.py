"""`headrace audit export`: the audit's lines as JSON lines, with those of journals if they are wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer

from headrace.audit.journals import Journal
from headrace.cli.commands.audit.place import SECURITY, failures, journals, record
from headrace.cli.console import DEFAULT_HOME, Home, command, err, fail, place
from headrace.cli.installation import control_place


def export(
    home: Home = DEFAULT_HOME,
    source: Annotated[
        str, typer.Option(help="The lines of this journal: models, deployments, readings, security.")
    ] = "",
    first: Annotated[int, typer.Option("--from", min=1, help="Number of the first line of the audit.")] = 1,
    persons: Annotated[
        bool, typer.Option("--persons", help="With the lines of journals, those that tell of persons too.")
    ] = False,
    out: Annotated[
        typer.FileTextWrite, typer.Option("--out", help="File to write; - for the terminal.")
    ] = "-",  # type: ignore[assignment]  # typer opens it
) -> None:
    """Write the lines of the audit as they are, one JSON object each."""
    layout, count = place(home), 0
    wanted = [j for j in journals(layout) if persons or (j.name == source and source != SECURITY)]
    if source and source not in {j.name for j in wanted}:
        known = ", ".join(j.name for j in journals(layout))
        fail("they tell of persons: add --persons" if source == SECURITY else f"the journals are: {known}")
    record(layout, "exported", source=source, persons="yes" if persons else "", first=str(first))
    with failures():
        if not source:
            with control_place.records(layout) as records:
                for line in records.lines(first - 1):
                    out.write(line.line.decode() + "\n")
                    count += 1
        for journal in wanted:
            for text in _lines(journal) if source in ("", journal.name) else ():
                out.write(text + "\n")
                count += 1
    err.print(f"{count} lines; check them by: {command()} audit verify", style="dim", markup=False)


def _lines(journal: Journal) -> Iterator[str]:
    for path, identity in journal.files():
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                text = line.removesuffix(b"\n").decode("utf-8", "backslashreplace")
                about = {"journal": journal.name, "file": identity, "line": number, "text": text}
                yield json.dumps(about, separators=(",", ":"), ensure_ascii=False)
