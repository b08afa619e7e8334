"""The command lines of the measurements of one part."""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from load.arguments import Commands, RunCommand, command, names
from load.systems.processes import ROOT

_DEFAULT_HOME = ROOT / ".headrace"


def add(commands: Commands) -> None:
    """Adds them all."""
    memory = command(commands, "memory", _of("memory"), _DEFAULT_HOME)
    memory.add_argument("--shape", choices=["apart", "together"], help="start this one, else of what is up")
    pictures = command(commands, "moderation", _of("moderation"), _DEFAULT_HOME)
    pictures.add_argument("--seconds", type=float, default=10.0)
    executor = commands.add_parser("executor")
    executor.set_defaults(run=_of("executor.command"))
    executor.add_argument("--models", type=Path, default=_DEFAULT_HOME / "models")
    executor.add_argument("--seconds", type=float, default=3)
    executor.add_argument("--only", type=names, help="of overhead, swap")


def _of(module: str) -> RunCommand:
    """The `run` of a module here, imported when it is wanted: ONNX Runtime takes seconds."""
    path = f"load.micro.{module}"
    assert find_spec(path) is not None, path

    def run(options: argparse.Namespace) -> object:
        return import_module(path).run(options)

    return run
