"""How the commands print: with colours on a terminal, plainly into a pipe, and an exit code for scripts."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
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


def seconds(text: str, option: str) -> float:
    """Of a duration such as 90s, 30m, 2h or 1d; ends the command if it is none."""
    from headrace.pipeline.document.durations import parse_duration  # late: most commands need none

    found = parse_duration(text)
    if not found:
        fail(f"{option} {text!r} is not a duration such as 90s, 30m, 2h or 1d", code=2)
    return found / 1e6


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`name=value` of an option that may be repeated, or a list with commas; ends the command if it is something else."""
    found: dict[str, str] = {}
    for text in ",".join(texts).split(",") if texts else ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            fail(f"{option} {text!r} is not NAME=VALUE", code=2)
        found[name.strip()] = value.strip()
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
