"""How the commands print: with colours on a terminal, plainly into a pipe, and an exit code for scripts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from headrace.cli.installation import layout

# A pipe has no width; its reader should get whole lines.
_PIPE_WIDTH = 160

out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, highlight=False)

Home = Annotated[
    Path, typer.Option("--home", help="Folder of the installation.", envvar="HEADRACE_HOME", file_okay=False)
]
DEFAULT_HOME = Path(".headrace")
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def place(home: Path) -> layout.Layout:
    """The layout of a home; ends the command if the home can't be used."""
    try:
        return layout.of(home)
    except layout.LayoutError as error:
        fail(str(error))


def prepared(home: Path) -> layout.Layout:
    """The layout of a home that was made; ends the command if there is none yet."""
    found = place(home)
    if not found.control_key.exists():
        fail(f"there is nothing in {home} yet; make it by: {again('up', found.home)}")
    return found


def command() -> str:
    """How to type this command: its name where the shell finds it, else its path from here."""
    if shutil.which("headrace"):
        return "headrace"
    called = Path(sys.argv[0])
    return os.path.relpath(called) if called.name == "headrace" else "headrace"


def again(words: str, home: Path) -> str:
    """How to type a command for this home, also from another folder."""
    named = "" if home == DEFAULT_HOME.absolute() else f" --home {home}"
    return f"{command()} {words}{named}"


def fail(text: str, code: int = 1) -> NoReturn:
    """Prints what is wrong and ends the command."""
    err.print("error:", style="bold red", end=" ")
    # Not markup: a message may contain brackets.
    err.print(text, markup=False, soft_wrap=True)
    raise typer.Exit(code)
