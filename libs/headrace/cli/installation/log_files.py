"""The log files of an installation: how they are bounded, and their last lines."""

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
    """Moves a log that has outgrown `max_bytes` aside to PATH.1, PATH.2, … and empties it. Says whether it did.

    The processes keep writing to the same open file (they append, so emptying it is safe); lines written between
    the copy and the emptying are lost, which is the price of not reading every line of theirs ourselves.

    Where the disk has no room for a copy, the oldest copies are given up for it; a log of twice `max_bytes` for which
    even that is not enough is emptied without one, for it must stay bounded. Raises OSError if nothing helped.
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
    """A whole copy under a name of its own: what fails half-way must not take the place of a copy that is whole."""
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

    `begins`: only what was written from there on, unless the log was emptied since.
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
