"""Which file is whose: each process that shares a folder takes the first one that no living process has."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_MOST = 64


class NoSlotError(OSError):
    """All files are taken."""


class Slot:
    """The file of this process, until `close` or its end. What an ended process left is taken up by the next one."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.path, self._lock = self._claim()

    def others(self) -> list[Path]:
        """Files of other processes, also of those that ended."""
        return sorted(path for path in self._folder.glob("*.sqlite") if path != self.path)

    def close(self) -> None:
        os.close(self._lock)

    def _claim(self) -> tuple[Path, int]:
        for number in range(_MOST):
            lock = os.open(self._folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            return self._folder / f"{number}.sqlite", lock
        raise NoSlotError(f"{_MOST} processes share {self._folder.name}")
