"""Sealed files: each begins with the header of an envelope, and was sealed whole or grows by parts (`headrace.recordings`)."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.encryption.envelope import Sealer, is_sealed, read_header
from headrace.encryption.errors import DamagedError
from headrace.encryption.stores import Seen
from headrace.state import atomic

# Longer than any header.
_BEGINNING_BYTES = 1 << 17


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """Implements `stores.Store` for files that begin with the header of an envelope. `patterns`: of files below `folder`."""

    name: str
    folder: Path
    patterns: tuple[str, ...]

    def files(self) -> list[Path]:
        """Those that are there now, plain ones too. Raises OSError."""
        return [path for pattern in self.patterns for path in sorted(self.folder.glob(pattern))]

    def look(self, path: Path) -> Seen:
        """What a file needs. Raises OSError; FileNotFoundError: it was removed meanwhile."""
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING_BYTES)
        if not is_sealed(beginning):
            # What was begun and has nothing in it yet is nothing plain.
            return Seen(plain=bool(beginning))
        try:
            return Seen(frozenset({read_header(beginning)[0].wrapped.version}))
        except DamagedError:
            return Seen(damaged=True)

    def rewrap(self, path: Path, sealer: Sealer) -> bool:
        """Seals the data key of a file with the current version; what it protects is not read. The file is replaced in one step.

        Returns whether there was anything to do. Raises KeysAwayError, LockedError, DamagedError, OSError (FileNotFoundError: it
        was removed meanwhile; BlockingIOError: somebody writes, moves or removes it now); then the file is as it was."""
        before, content = path.stat(), path.read_bytes()
        fresh = sealer.rewrapped(content) if is_sealed(content) else None
        if fresh is None:
            return False
        # Taken only now, as a token may hang, and whoever wants the file would wait for it.
        with claimed(path) as ours:
            if not ours or _changed(before, path.stat()):
                raise _in_use(path)
            atomic.write(path, fresh, mode=before.st_mode & 0o777)
            # Who collects files by their age still finds the oldest first.
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return True


def _changed(before: os.stat_result, now: os.stat_result) -> bool:
    return not os.path.samestat(before, now) or before.st_size != now.st_size


def _in_use(path: Path) -> OSError:
    if not path.exists():
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return BlockingIOError(errno.EAGAIN, "it is being written or moved; ask again later", str(path))


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
