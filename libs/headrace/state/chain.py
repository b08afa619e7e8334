"""A log whose lines are a hash chain: who wrote what, so that a line that was changed or removed is noticed.

Each line is a JSON object with the SHA-256 of the line before (key `previous`). Lines that are removed at the end do not break
the chain: to detect that, keep the last hash in another place.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_TAIL = 64 << 10
FIRST = "0" * 64


def append(path: Path, entry: Mapping[str, object]) -> None:
    """Appends `entry`; it is on the disk once this returns. Threads and processes of one machine may do so at the same time.

    A line should stay below 64 KiB: the writer shortens what strangers sent. Raises OSError; then nothing was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL, max(size - _TAIL, 0))
        # If a power loss left an incomplete line, the new one starts on a line of its own.
        start = b"\n" if tail and not tail.endswith(b"\n") else b""
        text = json.dumps({**entry, "previous": _last_hash(tail)}, ensure_ascii=False)
        line = start + text.encode() + b"\n"
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)  # an incomplete line would break the chain
            raise
    finally:
        os.close(descriptor)


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines, oldest first. Raises ValueError naming the line at which the chain is broken, OSError."""
    expected = FIRST
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict) or entry.get("previous") != expected:
                raise ValueError(
                    f"{path}, line {number}: the chain is broken; this line or the one before was altered or removed"
                )
            expected = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
            yield entry


def _last_hash(tail: bytes) -> str:
    lines = tail.rstrip(b"\n").rsplit(b"\n", 1)
    return hashlib.sha256(lines[-1]).hexdigest() if lines[-1] else FIRST
