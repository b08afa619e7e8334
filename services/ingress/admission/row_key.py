"""The key that the extraction guard hashes rows with. The first door makes it; all doors of an installation use the same."""

from __future__ import annotations

import secrets
from collections.abc import Callable
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
                self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                atomic.write_first(self._file, self.value, mode=0o600)
                self.value = plain_files.read(self._file)
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
