"""How the command speaks: to a person on a terminal, plainly to a pipe, and with an exit code to a script."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from headrace.cli import layout

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Home = Annotated[
    Path, typer.Option("--home", help="Folder of the installation.", envvar="HEADRACE_HOME", file_okay=False)
]
DEFAULT_HOME = Path(".headrace")


def place(home: Path) -> layout.Layout:
    """The layout of a home; ends the command if there can be none."""
    try:
        return layout.of(home)
    except layout.LayoutError as error:
        fail(str(error))


def fail(text: str, code: int = 1) -> NoReturn:
    """Says what is wrong and ends the command."""
    err.print("error:", style="bold red", end=" ")
    # Not markup: a message may hold brackets of its own.
    err.print(text, markup=False, soft_wrap=True)
    raise typer.Exit(code)
