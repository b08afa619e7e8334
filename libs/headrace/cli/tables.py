"""Tables of commands, all in one look. Apart from `console`, as commands that print none need not import them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from headrace.cli.console import out


def headed_table(*columns: str, numbers: bool = False) -> Table:
    """An empty table. `numbers`: all columns but the first are aligned to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for position, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="right" if numbers and position else "left")
    return table


def titled_rows(rows: Sequence[tuple[str, Any]] = ()) -> Table:
    """Titles and what belongs to each; more may be added."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for title, value in rows:
        table.add_row(title, value)
    return table


def print_rows(rows: Sequence[tuple[str, Any]]) -> None:
    """Prints titles and values, if there are any."""
    out.print(titled_rows(rows))
