"""Torn lines: what a power loss has left of the last line of a file that only grows. Nobody was answered on its account.

Whoever appends next ends it with a mark: a record separator, which no JSON text holds, and a JSON object.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from headrace.state import atomic

MARK = b'\x1e{"torn": true'


class Torn(NamedTuple):
    """`line`: its number, from 1; `at`: bytes into the file; `content`: what there is of it."""

    line: int
    at: int
    content: bytes


def ending(tail: bytes) -> bytes:
    """What must precede the next line of a file that ends with `tail`, if its lines are not a chain."""
    return MARK + b"}\n" if tail and not tail.endswith(b"\n") else b""


def append(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Appends whole lines to a file that is no chain; they are on the disk once this returns. Several processes may do so.

    Raises OSError: nothing was appended.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        start = os.fstat(descriptor).st_size
        if start == 0:
            atomic.sync_folder(path.parent)  # so that new and renamed files exist after a crash
        try:
            left = memoryview(ending(os.pread(descriptor, 1, max(start - 1, 0))) + data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError:
            # The disk became full and only a part was written. Remove it: the whole batch is written again later.
            os.ftruncate(descriptor, start)
            raise
    finally:
        os.close(descriptor)


def marked(line: bytes) -> bytes | None:
    """The JSON object with which a torn line was ended; None: it is not torn."""
    begin = line.rfind(MARK)
    return None if begin < 0 else line[begin + 1 :]


def lines(path: Path) -> list[Torn]:
    """The torn lines of a file, the last one too if nobody has ended it yet. Raises OSError."""
    content = path.read_bytes()
    if content.endswith(b"\n") and MARK not in content:
        return []
    found, at = [], 0
    for number, line in enumerate(content.split(b"\n"), 1):
        last = at + len(line) == len(content)
        if line and (last or MARK in line):
            found.append(Torn(number, at, line.partition(MARK)[0]))
        at += len(line) + 1
    return found
