"""`headrace doctor`: what is missing, and how to put it right."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import typer
from rich.table import Table
from rich.text import Text

from headrace.cli.console import DEFAULT_HOME, Home, out, place
from headrace.cli.diagnosis import doctor_checks
from headrace.cli.diagnosis.doctor_checks import Finding, Level

_STYLES = {Level.GOOD: "green", Level.WARN: "yellow", Level.BAD: "bold red"}


def doctor(home: Home = DEFAULT_HOME) -> None:
    """Look at the machine and the files of the installation. Exit code 1 if headrace can't run."""
    findings = list(doctor_checks.examine(place(home), datetime.now(UTC)))
    out.print(show(findings))
    if any(finding.level is Level.BAD for finding in findings):
        raise typer.Exit(1)


def show(findings: Iterable[Finding]) -> Table:
    """The findings as a table."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for finding in findings:
        told = Text(finding.found)
        if finding.fix:
            told.append(f"\n→ {finding.fix}", style="bold")
        table.add_row(Text(finding.level.value, style=_STYLES[finding.level]), finding.what, told)
    return table
