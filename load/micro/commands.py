"""The command lines of the measurements of one part."""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from load.arguments import Commands, RunCommand, command, names, numbers
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
    executor.add_argument("--only", type=names, help="of overhead, latency, batching, swap")
    served = command(commands, "features", _of("features.comparison"))
    served.add_argument("--rows", type=numbers, default=[1, 100])
    served.add_argument("--seconds", type=float, default=2.0)
    served.add_argument("--runs", type=int, default=7)
    served.add_argument("--concurrency", type=int, default=16)
    added = command(commands, "features-added", _of("features.added_time"))
    added.add_argument("--shapes", type=names, default=["apart", "together"])
    added.add_argument("--requests", type=int, default=2000)


def _of(module: str) -> RunCommand:
    """The `run` of a module here, imported when it is wanted: ONNX Runtime takes seconds."""
    path = f"load.micro.{module}"
    assert find_spec(path) is not None, path

    def run(options: argparse.Namespace) -> object:
        return import_module(path).run(options)

    return run
