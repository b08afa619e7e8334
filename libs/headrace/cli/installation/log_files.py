"""The log files of an installation: how their size is bounded, and how their last lines are read."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
KEPT = 3
_BLOCK = 64 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def rotate(path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> bool:
    """Copies a log larger than `max_bytes` to PATH.1, PATH.2, … and empties it. Returns whether it did.

    The processes keep writing to the same open file (they append, so emptying it is safe). Lines that are written between
    the copy and the emptying are lost; to keep them, all output would have to pass through the supervisor.

    If the disk has no space for a copy, the oldest copies are deleted. If that is not enough, a log of twice `max_bytes`
    is emptied without a copy, because it must stay bounded. Raises OSError if nothing helped.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size <= max_bytes:
        return False
    older = [path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1)]
    try:
        copy = _copied(path, older)
    except OSError:
        if size <= 2 * max_bytes:
            raise
        os.truncate(path, 0)
        return True
    for source, target in reversed(list(pairwise(older))):
        if source.exists():
            source.replace(target)
    copy.replace(older[0])
    os.truncate(path, 0)
    return True


def _copied(path: Path, older: Sequence[Path]) -> Path:
    """A complete copy under a temporary name: one that fails half-way must not replace a complete one."""
    copy = path.with_name(f".{path.name}.copy")
    while True:
        try:
            shutil.copyfile(path, copy)
            return copy
        except OSError as error:
            copy.unlink(missing_ok=True)
            oldest = next((old for old in reversed(older) if old.exists()), None)
            if error.errno not in _NO_ROOM or oldest is None:
                raise
            oldest.unlink()


def tail(path: Path, lines: int, block_bytes: int = _BLOCK, *, begins: int = 0) -> list[str]:
    """The last `lines` lines of a log, read from its end; none if there is no such file.

    `begins`: a position; only what was written after it, unless the log was emptied since.
    """
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            if position < begins:
                begins = 0
            block = b""
            while position > begins and block.count(b"\n") <= lines:
                step = min(block_bytes, position - begins)
                position = file.seek(position - step)
                block = file.read(step) + block
    except FileNotFoundError:
        return []
    return block.decode(errors="replace").splitlines()[-lines:]
