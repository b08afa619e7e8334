"""Reads files of folders in which anything may lie: only plain files are opened, so a FIFO or device can't block the reader."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def opened(path: Path, flags: int = 0) -> BinaryIO:
    """The file for reading. `flags`: of os.open, beside the usual ones. Raises OSError, also if it is no plain file."""

    def checked(name: str, usual: int) -> int:
        # A FIFO may have come in between.
        descriptor = os.open(name, usual | os.O_NONBLOCK | os.O_NOCTTY | flags)
        try:
            _check(path, os.fstat(descriptor))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    _check(path, path.stat())  # first, because opening a device may have an effect
    return open(path, "rb", opener=checked)


def read(path: Path, limit: int = -1) -> bytes:
    """The content of a plain file, or its first `limit` bytes. Raises OSError."""
    with opened(path) as file:
        return file.read(limit)


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
