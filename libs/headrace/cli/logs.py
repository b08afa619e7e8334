"""The log files of an installation: how they are bounded, and their last lines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
KEPT = 3
_BLOCK = 64 * 1024


def rotate(path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> bool:
    """Moves a log that has outgrown `max_bytes` aside to PATH.1, PATH.2, … and empties it. Says whether it did.

    The processes keep writing to the same open file (they append, so emptying it is safe); lines written between
    the copy and the emptying are lost, which is the price of not reading every line of theirs ourselves.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int, block_bytes: int = _BLOCK) -> list[str]:
    """The last `lines` lines of a log, read from its end; none if there is no such file."""
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            block = b""
            while position > 0 and block.count(b"\n") <= lines:
                step = min(block_bytes, position)
                position = file.seek(position - step)
                block = file.read(step) + block
    except FileNotFoundError:
        return []
    return block.decode(errors="replace").splitlines()[-lines:]
