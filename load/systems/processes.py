"""CPU time and memory of a group of processes, read from /proc."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
# A file that measurements on one machine lock, so that they take turns; unset: nobody else measures.
LOCK = "LOAD_LOCK"


@contextmanager
def turn() -> Iterator[None]:
    """Waits until no other measurement that knows the lock runs, and keeps others waiting."""
    name = os.environ.get(LOCK)  # noqa: TID251 - not a setting of a service
    if not name:
        yield
        return
    with Path(name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class OtherWork:
    """How many cores other processes than the given ones have used since this was made: above 0.2, figures are suspect."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._own = CpuMeter({*pids, os.getpid()})
        self._before, self._children = _system(), os.times()

    def cores(self) -> float:
        """Their mean number. What our own children used that have ended does not count."""
        busy, total = (after - before for after, before in zip(_system(), self._before, strict=True))
        now, before = os.times(), self._children
        children = now.children_user + now.children_system - before.children_user - before.children_system
        return (
            max((busy - self._own.seconds() - children) / (total / (os.cpu_count() or 1)), 0.0)
            if total
            else 0.0
        )


def _system() -> tuple[float, float]:
    """Seconds of all cores: busy, and in total."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    return (sum(fields) - fields[3] - fields[4]) * _TICK_S, sum(fields) * _TICK_S


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
    """Proportional set size in MiB: shared pages are divided among the processes that share them."""
    return mapped_mib(pids, "Pss")


def mapped_mib(pids: Iterable[int], key: str) -> float:
    """MiB of that line of smaps_rollup, such as `Pss_Anon`."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
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
