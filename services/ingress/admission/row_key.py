"""The key that the extraction guard hashes rows with. The first door makes it; all doors of an installation use the same."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headrace.state import atomic, plain_files

_BYTES = 32


class RowKey:
    """Random: whoever could choose rows that have the same hash could ask more of them than the budget allows.

    `folder`: where the doors of one machine keep it, also across restarts; None: it is of this process. `complain` is told if
    the file can't be used: then the key is of this process, and rows that other doors counted count again.
    """

    def __init__(self, folder: Path | None, complain: Callable[[OSError], None]) -> None:
        self.value = secrets.token_bytes(_BYTES)
        self._file = None if folder is None else folder / "rows.key"
        self._complain = complain
        if self._file is not None:
            try:
                self.value = _first(self._file, self.value)
            except OSError as error:
                complain(error)

    def agree(self, value: bytes) -> None:
        """The doors of all machines have this one. It differs from our own only if we started without asking them."""
        if value == self.value:
            return
        self.value = value
        if self._file is not None:
            try:
                atomic.write(self._file, value, mode=0o600)
            except OSError as error:
                self._complain(error)


def _first(path: Path, content: bytes) -> bytes:
    """What the file has; `content`, if it was not there: of several processes, one makes it. Raises OSError."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        atomic.write(fresh, content, mode=0o600)
        try:
            with suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()
    return plain_files.read(path)
