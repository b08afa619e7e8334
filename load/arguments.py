"""What the commands of `python -m load` share on their command lines."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from load.systems.processes import ROOT

HOME = ROOT / ".headrace" / "load"
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # generic in the stubs only
RunCommand: TypeAlias = "Callable[[argparse.Namespace], None]"


def command(commands: Commands, name: str, run: RunCommand, home: Path = HOME) -> argparse.ArgumentParser:
    """A command about a home. `run` gets the options."""
    made = commands.add_parser(name)
    made.set_defaults(run=run)
    made.add_argument("--home", type=lambda text: Path(text).resolve(), default=home)
    return made


def system_command(commands: Commands, name: str, run: RunCommand) -> argparse.ArgumentParser:
    """A command about a whole headrace in one of its shapes."""
    made = command(commands, name, run)
    made.add_argument("--shape", choices=["apart", "together"], default="apart")
    return made


def numbers(text: str) -> list[int]:
    """`1,8,64`."""
    return [int(n) for n in text.split(",")]


def names(text: str) -> list[str]:
    """`router,features`."""
    return text.split(",")


def cores(text: str) -> frozenset[int]:
    """`0,1`: numbers of processor cores."""
    return frozenset(numbers(text))
