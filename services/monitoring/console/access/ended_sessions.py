"""Sessions that were ended by signing out: for each an empty file, so that all processes of the home know, now and later."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

from headrace.state import atomic


class EndedSessions:
    """The files in `folder`; after `longest_s`, when a session has ended by itself, its file is removed. `wall`: seconds since
    1970. Threads may share it."""

    def __init__(self, folder: Path, wall: Callable[[], float], longest_s: float) -> None:
        self._folder = folder
        self._wall = wall
        self._longest_s = longest_s
        # Those that have no file yet, and those that have one.
        self._new: set[str] = set()
        self._known: set[str] = set()
        # Which sessions were ended before could not be read: none of them goes on.
        self._unknown_until = -math.inf

    def add(self, nonce: str) -> None:
        """Ends a session in this process; `sync` makes it last."""
        self._new.add(nonce)

    def has(self, nonce: str, began: float) -> bool:
        """Whether a session is over that began then."""
        return nonce in self._new or nonce in self._known or began <= self._unknown_until

    def sync(self) -> None:
        """Reads what other processes wrote, and writes what is new. Blocks. Raises OSError: the next call tries it again."""
        try:
            self._read()
        except OSError:
            if self._unknown_until == -math.inf:
                self._unknown_until = self._wall()
            raise
        if new := frozenset(self._new):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for nonce in new:
                os.close(os.open(self._folder / nonce, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            atomic.sync_folder(self._folder)
            self._known.update(new)
            self._new.difference_update(new)

    def _read(self) -> None:
        if not self._folder.exists():
            return
        for path in self._folder.iterdir():
            if path.stat().st_mtime + self._longest_s >= self._wall():
                self._known.add(path.name)
            else:
                path.unlink(missing_ok=True)
                self._known.discard(path.name)
