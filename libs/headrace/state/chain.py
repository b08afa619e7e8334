"""A log whose lines are a hash chain: who wrote what, so that a line that was changed or removed is noticed.

Each line is a JSON object with the SHA-256 of the line before (key `previous`). Lines that are removed at the end do not break
the chain: to detect that, keep the last hash in another place. A torn line (torn.py) is a link too, by the mark at its end.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.state import torn

# A torn line and the one before it.
_TAIL = 192 << 10
FIRST = "0" * 64


def append(path: Path, entry: Mapping[str, object]) -> None:
    """Appends `entry`; it is on the disk once this returns. Threads and processes of one machine may do so at the same time.

    A line should stay below 64 KiB: the writer shortens what strangers sent. Raises OSError; then nothing was written.
    """
    extend(path, [entry])


def extend(path: Path, entries: Iterable[Mapping[str, object]]) -> None:
    """As `append`, several at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL, max(size - _TAIL, 0))
        whole, _, part = tail.rpartition(b"\n")
        last, lines = hash_of(whole.rpartition(b"\n")[2]) if whole else FIRST, []
        if part:
            mark = b"\x1e" + linked({"torn": True}, last)
            last = hash_of(part + mark)
            lines.append(mark)
        for entry in entries:
            lines.append(linked(entry, last))
            last = hash_of(lines[-1])
        content = b"".join(line + b"\n" for line in lines)
        try:
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)  # an incomplete line would break the chain
            raise
    finally:
        os.close(descriptor)


def linked(entry: Mapping[str, object], previous: str) -> bytes:
    """The line of `entry` after a line with the hash `previous`."""
    return json.dumps({**entry, "previous": previous}, ensure_ascii=False).encode()


def hash_of(line: bytes) -> str:
    """What the next line has as `previous`."""
    return hashlib.sha256(line).hexdigest()


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines, oldest first, without torn ones. Raises ValueError naming the line at which the chain is broken, OSError."""
    with path.open("rb") as file:
        yield from checked((line[:-1] for line in file if line.endswith(b"\n")), str(path))


def checked(
    lines: Iterable[bytes], where: str, previous: str | None = FIRST, number: int = 1
) -> Iterator[dict[str, Any]]:
    """The entries of lines. `previous`: hash before the first of them, which has this `number`; None: not known.

    Raises ValueError naming `where` and the line at which the chain is broken.
    """
    for at, line in enumerate(lines, number):
        try:
            ended = torn.marked(line)
            entry = json.loads(line if ended is None else ended)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or previous not in (None, entry.get("previous")):
            raise ValueError(
                f"{where}, line {at}: the chain is broken; this line or the one before was altered or removed"
            )
        previous = hash_of(line)
        if ended is None:
            yield entry
