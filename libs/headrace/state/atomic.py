"""Files that a reader sees either as they were or as they are now, never half written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replaces `path` by `content` in one step; it survives a crash of the machine once this returns.

    The file has `mode` from its first moment, so that a secret is never readable in between. Raises OSError that names
    `path`, which is then as it was.
    """
    try:
        _write(path, content, mode)
    except OSError as error:
        error.filename = str(path)  # a full disk is told without a name, others with that of the fresh file
        raise


def _write(path: Path, content: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
