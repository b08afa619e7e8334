"""Files that one process at a time writes, moves or removes: whoever does so holds the file's lock meanwhile."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether the file is the caller's meanwhile: it is there, and nobody writes, moves or removes it who asks here too. Not
    `wait`: also False if somebody has it. Raises OSError."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            # It may have been removed, or replaced by another file, before the lock was given.
            if _is_at(descriptor, path):
                yield True
                return
        finally:
            os.close(descriptor)


def new_claimed(path: Callable[[], Path]) -> tuple[int, Path]:
    """A new file to append to, for its owner alone and claimed until its descriptor is closed. `path`: a name that no file has.

    Raises OSError; FileExistsError: the name is not new.
    """
    while True:
        name = path()
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Somebody may have claimed it before us, and removed it or moved it away as one that a killed process left empty.
            if _is_at(descriptor, name):
                return descriptor, name
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
