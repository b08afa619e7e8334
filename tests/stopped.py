"""Stops processes, or one thread, as code does that blocks an event loop.

SIGSTOP acts some time after it was sent: on a busy machine a thread answers one more call meanwhile.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.children import ends_with_tests

_SEIZE, _INTERRUPT = 0x4206, 0x4207
_ALL_THREADS = 0x40000000  # __WALL
# Stopped, or ended meanwhile.
_STILL = frozenset("TtZX")


def stop(pid: int) -> None:
    """Returns when it stands still. Raises ProcessLookupError."""
    os.kill(pid, signal.SIGSTOP)
    until_stopped(pid)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Meanwhile it stands still; it goes on then, unless it was replaced. Raises ProcessLookupError."""
    stop(pid)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


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


@contextmanager
def stopped_thread(thread: int) -> Iterator[None]:
    """`thread`: its id; of a process's first thread, the process's. Skips by name without the right to trace it.

    By a process of its own: where a thread of the tracer waits for the traced process as its child, it takes the news of the stop
    for that of the end.
    """
    command = ends_with_tests(sys.executable, "-m", "tests.stopped", str(thread))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        if problem := tracer.stdout.readline().strip():
            pytest.skip(f"a thread can't be stopped here: ptrace: {problem}")
        yield  # its end closes the pipe


def _trace(thread: int) -> None:
    """Prints an empty line once the thread stands still, else why not. Its end lets the thread go on."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    if ptrace(_SEIZE, thread, None, None) or ptrace(_INTERRUPT, thread, None, None):
        print(os.strerror(ctypes.get_errno()))
        return
    os.waitpid(thread, _ALL_THREADS)
    print(flush=True)
    # If it is killed, its parent hears of that once the tracer has.
    while (
        not select.select([sys.stdin], [], [], 0.02)[0]
        and not os.waitpid(thread, _ALL_THREADS | os.WNOHANG)[0]
    ):
        pass


if __name__ == "__main__":
    _trace(int(sys.argv[1]))
