"""Stops processes, or one thread, as code does that blocks an event loop.

SIGSTOP acts some time after it was sent: on a busy machine a thread answers one more call meanwhile.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
ALL_THREADS = 0x40000000  # __WALL
_libc = ctypes.CDLL(None, use_errno=True)
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


@contextmanager
def stopped_thread(thread: int) -> Iterator[None]:
    """`thread`: its id; of a process's first thread, the process's. Skips by name without the right to trace it.

    If it is killed meanwhile, the process's parent hears of that once this process has waited for it.
    """
    try:
        _ptrace(_SEIZE, thread)
    except OSError as error:
        pytest.skip(f"a thread can't be stopped here: ptrace: {error.strerror}")
    try:
        _ptrace(_INTERRUPT, thread)
        os.waitpid(thread, ALL_THREADS)
        yield
    finally:
        try:
            _ptrace(_DETACH, thread)
        except ProcessLookupError:
            # It was killed; this process may be the parent, too.
            with suppress(ChildProcessError):
                os.waitpid(thread, ALL_THREADS | os.WNOHANG)


def _ptrace(request: int, thread: int) -> None:
    if _libc.ptrace(request, thread, None, None) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
