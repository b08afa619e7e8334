"""What the processes of a running headrace hold: the proportional set size of each, its own pages apart from files' pages."""

from __future__ import annotations

import argparse

from load.systems.headrace import status
from load.systems.processes import children_of, mapped_mib


def run(options: argparse.Namespace) -> None:
    """Prints a line for each process of the home that is up, the supervisor's too, and the sum."""
    found = status(options.home)
    running = {name: s["pid"] for name, s in found["services"].items() if s["pid"] is not None}
    pids = {name: children_of([pid]) for name, pid in running.items()}
    pids["supervisor"] = {int((options.home / "run" / "supervisor.pid").read_text().split()[0])}
    print("| process | PSS MiB | of it own | of it files |\n|---|--:|--:|--:|")
    sums = [0.0, 0.0, 0.0]
    for name, group in pids.items():
        held = [mapped_mib(group, key) for key in ("Pss", "Pss_Anon", "Pss_File")]
        sums = [a + b for a, b in zip(sums, held, strict=True)]
        print(_line(name, held))
    print(_line(f"all ({found['shape']})", sums))


def _line(name: str, held: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{mib:.0f}' for mib in held)} |"
