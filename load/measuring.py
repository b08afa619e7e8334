"""CPU time and memory of a group of processes, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def children_of(roots: Iterable[int]) -> set[int]:
    """The processes themselves and all that they started."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int(_fields(folder)[1])
            except OSError:
                continue
    found = set(roots)
    while grown := {p for p, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that the processes have used so far."""
    total = 0.0
    for pid in pids:
        try:
            fields = _fields(Path(f"/proc/{pid}"))
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) * _TICK_S
    return total


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size in MiB: shared pages are split among those who share them."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _fields(folder: Path) -> list[str]:
    # After the command's name, which may hold spaces and parentheses.
    return (folder / "stat").read_text().rpartition(") ")[2].split()


class CpuMeter:
    """CPU seconds that processes have used since this was made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = set(pids)
        self._before = cpu_seconds(self._pids)

    def seconds(self) -> float:
        return cpu_seconds(self._pids) - self._before
