"""One supervisor per home: the process that holds the lock on the pid file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def acquire(path: Path) -> bool:
    """Writes our pid into the file and holds its lock until this process ends; the kernel releases it even after a kill -9.
    Returns whether it was free."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return True  # open until this process ends


def holder(path: Path) -> int | None:
    """Pid of the supervisor that runs now, None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).strip()
        return int(text) if text.isdigit() else None
    else:
        return None
    finally:
        os.close(descriptor)
