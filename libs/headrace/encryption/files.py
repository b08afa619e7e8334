"""Sealed files: each begins with the header of an envelope, and was sealed whole or grows by parts (`headrace.recordings.frames`)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from headrace.encryption.envelope import Sealer, is_sealed, read_header
from headrace.state import atomic

# Longer than any header.
_BEGINNING_BYTES = 1 << 17


class Rewrapped(Enum):
    """What became of one file. BUSY: somebody writes or moves it now; ask again later."""

    DONE = "done"
    CURRENT = "current"
    BUSY = "busy"


def version_of(path: Path) -> str | None:
    """The version of the key that a file is sealed with; None: it is plain. Raises OSError, DamagedError."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING_BYTES)
    return read_header(beginning)[0].wrapped.version if is_sealed(beginning) else None


def sealed_among(paths: Iterable[Path]) -> Iterator[Path]:
    """Those that are sealed, also damaged ones; what is gone meanwhile is left out. Raises OSError."""
    for path in paths:
        try:
            with path.open("rb") as file:
                sealed = is_sealed(file.read(64))
        except FileNotFoundError:
            continue
        if sealed:
            yield path


def rewrap(path: Path, sealer: Sealer) -> Rewrapped:
    """Seals the data key of a sealed file with the current version; what it protects is not read. The file is replaced in one step.
    Blocks. Raises KeysAwayError, LockedError, DamagedError, FileNotFoundError, OSError; then the file is as it was."""
    with claimed(path) as ours:
        if not ours:
            return Rewrapped.BUSY
        status = path.stat()
        content = sealer.rewrapped(path.read_bytes())
        if content is None:
            return Rewrapped.CURRENT
        atomic.write(path, content, mode=status.st_mode & 0o777)
        # Who collects files by their age still finds the oldest first.
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return Rewrapped.DONE


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether the file is the caller's meanwhile: it is there, and nobody writes, moves or removes it who asks here too. Not `wait`:
    also False if somebody has it. Raises OSError."""
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


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
