"""What the processes of a running headrace hold: the proportional set size of each, its own pages apart from files' pages."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from load.systems.headrace import Setup, headrace, status
from load.systems.processes import children_of, mapped_mib


def run(options: argparse.Namespace) -> None:
    """Prints a line for each process of the home that is up, the supervisor's too, and the sum: MiB (PSS)."""
    with headrace(Setup(options.home, options.shape)) if options.shape else nullcontext():
        _print(options.home)


def _print(home: Path) -> None:
    found = status(home)
    running = {name: s["pid"] for name, s in found["services"].items() if s["pid"] is not None}
    pids = {name: children_of([pid]) for name, pid in running.items()}
    pids["supervisor"] = {int((home / "run" / "supervisor.pid").read_text().split()[0])}
    print("| process | PSS MiB | of it own | of it files |\n|---|--:|--:|--:|")
    held = {
        name: [mapped_mib(group, key) for key in ("Pss", "Pss_Anon", "Pss_File")]
        for name, group in pids.items()
    }
    for name, mib in held.items():
        print(_line(name, mib))
    whole = [sum(column) for column in zip(*held.values(), strict=True)]
    print(_line(f"all ({found['shape']})", whole))


def _line(name: str, held: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{mib:.0f}' for mib in held)} |"
