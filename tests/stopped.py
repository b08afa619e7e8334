"""Stops processes. SIGSTOP acts some time after it was sent: on a busy machine a thread answers one more call meanwhile."""

import os
import signal
import time
from pathlib import Path

# Stopped, or ended meanwhile.
_STILL = frozenset("TtZX")


def stop(pid: int) -> None:
    """Returns when it stands still. Raises ProcessLookupError."""
    os.kill(pid, signal.SIGSTOP)
    until_stopped(pid)


def send(pid: int, number: int) -> None:
    """Any signal; after SIGSTOP, returns when the process stands still. Raises ProcessLookupError."""
    os.kill(pid, number)
    if number == signal.SIGSTOP:
        until_stopped(pid)


def until_stopped(pid: int, within_s: float = 60.0) -> None:
    """Returns when all threads of a process that was sent SIGSTOP stand still, or have ended."""
    deadline = time.monotonic() + within_s
    while not _states(pid) <= _STILL:
        assert time.monotonic() < deadline, f"process {pid} is not stopped: {_states(pid)}"
        time.sleep(0.002)


def state(pid: int) -> str:
    """Of a process: R, S, T, Z, …"""
    return _state(Path(f"/proc/{pid}"))


def _states(pid: int) -> set[str]:
    try:
        return {_state(task) for task in Path(f"/proc/{pid}/task").iterdir()}
    except (FileNotFoundError, ProcessLookupError):
        return _states(pid) if Path(f"/proc/{pid}").exists() else set()  # of a thread that ended, or of all


def _state(folder: Path) -> str:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]
