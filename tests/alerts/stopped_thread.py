"""Stops one thread of another process, as code does that blocks an event loop: its other threads go on."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_ALL_THREADS = 0x40000000  # __WALL
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def stopped_thread(thread: int) -> Iterator[None]:
    """`thread`: its id; of a process's first thread, the process's. Needs the right to trace it. Raises OSError."""
    _ptrace(_SEIZE, thread)
    try:
        _ptrace(_INTERRUPT, thread)
        os.waitpid(thread, _ALL_THREADS)
        yield
    finally:
        try:
            _ptrace(_DETACH, thread)
        except ProcessLookupError:
            # It was killed meanwhile; its parent hears of that once whoever traced it did. Both may be this process.
            with suppress(ChildProcessError):
                os.waitpid(thread, _ALL_THREADS | os.WNOHANG)


def _ptrace(request: int, thread: int) -> None:
    if _libc.ptrace(request, thread, None, None) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
