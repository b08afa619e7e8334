"""Journals: files to which services append lines, and from which the collector takes them into the log.

A journal is written before what it tells of is done, by whoever does it; so it is complete also while nobody collects. Files
that grow too large may be renamed to FILE.1, FILE.2 and so on: a file is known by its first line, not by its name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from headrace.audit.records import Place
from headrace.state import torn
from headrace.state.torn import Torn

_IDENTITY = 16


class _Cursor(NamedTuple):
    """Where a place lies in a file: `at` bytes into it, while it is the file with this inode."""

    inode: int
    place: Place
    at: int


@dataclass(frozen=True, slots=True)
class Journal:
    """`personal`: its lines tell of persons, so the log gets commitments. `chained`: it is a hash chain (state/chain.py).

    `lock`: the file that its writers lock; absent: the journal itself.
    """

    name: str
    path: Path
    personal: bool = False
    chained: bool = False
    lock: Path | None = None
    # By what a file is known by. It saves time: lines need not be counted again.
    _cursors: dict[str, _Cursor] = field(default_factory=dict, repr=False, compare=False)

    def read(self, after: Place | None, limit: int) -> tuple[list[tuple[Place, str]], str]:
        """Up to `limit` lines after a place, each with its own place; and what happened to the journal, if anything did.

        If lines are missing, what is there now follows. `after` None: from the start. Nothing while somebody writes. Raises
        OSError.
        """
        with self._shared() as quiet:
            files = self._files() if quiet else []
            if not files:
                gone = "its file is not there any more" if quiet and after is not None and after.end else ""
                return [], gone
            first, why = self._start(files, after)
            lines: list[tuple[Place, str]] = []
            for path, identity in files[first:]:
                here = after if after is not None and not why and after.file == identity else Place(identity)
                lines += self._lines(path, here, limit - len(lines))
                if len(lines) == limit:
                    break
            return lines, why

    def torn(self) -> list[tuple[Path, Torn]]:
        """The torn lines of its files. Raises OSError."""
        return [(path, line) for path in self._paths() if path.exists() for line in torn.lines(path)]

    def _paths(self) -> list[Path]:
        """Its files, oldest first; the last may not be there."""
        numbered = (p for p in self.path.parent.glob(f"{self.path.name}.*") if p.suffix[1:].isdecimal())
        return [*sorted(numbered, key=lambda p: -int(p.suffix[1:])), self.path]

    def _files(self) -> list[tuple[Path, str]]:
        """Files with at least one line, oldest first, with what they are known by."""
        found = [(path, identity_of(path)) for path in self._paths()]
        return [(path, identity) for path, identity in found if identity]

    def _start(self, files: list[tuple[Path, str]], after: Place | None) -> tuple[int, str]:
        """The file to begin with, and what happened if it is not the one that it should be."""
        if after is None or not after.file:
            return 0, ""
        for number, (path, identity) in enumerate(files):
            if identity == after.file:
                if not self._reaches(path, after):
                    return (
                        number,
                        "its file is shorter than it was; lines may have been removed or come again",
                    )
                return number, ""
        return 0, "the file that was read last is not there any more; lines may be missing"

    def _reaches(self, path: Path, after: Place) -> bool:
        with path.open("rb") as file:
            return self._seek(file, after)

    def _seek(self, file: IO[bytes], after: Place) -> bool:
        """Puts the file at a place; False: it does not reach that far.

        If the last of the lines before is torn now, that is the end of the file, and nothing is to be read until it is ended.
        """
        about = os.fstat(file.fileno())
        known = self._cursors.pop(after.file, None)
        if known and (known.inode, known.place) == (about.st_ino, after) and known.at <= about.st_size:
            file.seek(known.at)
        else:
            for number in range(1, after.line + 1):
                line = file.readline()
                if not line.endswith(b"\n"):
                    return bool(line) and number == after.line
        self._cursors[after.file] = _Cursor(about.st_ino, after, file.tell())
        return True

    def _lines(self, path: Path, after: Place, limit: int) -> list[tuple[Place, str]]:
        found: list[tuple[Place, str]] = []
        with path.open("rb") as file:
            # A file that became shorter is read from its end on, and `_start` tells it.
            self._seek(file, after)
            here, inode = after, os.fstat(file.fileno()).st_ino
            while len(found) < limit and (content := file.readline()).endswith(b"\n"):
                here = Place(after.file, here.line + 1, file.tell())
                found.append((here, content[:-1].decode("utf-8", "surrogateescape")))
                self._cursors[after.file] = _Cursor(inode, here, file.tell())
        return found

    @contextmanager
    def _shared(self) -> Iterator[bool]:
        """No line is half written, or taken back, meanwhile. False: somebody writes now."""
        try:
            lock = os.open(self.lock or self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield True  # nobody has written yet
            return
        try:
            # Not waited for: a writer may have been stopped with the lock in its hand.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            yield False
            return
        try:
            yield True
        finally:
            os.close(lock)


def identity_of(path: Path) -> str:
    """What a file is known by; empty: it has no line yet. Raises OSError."""
    line = _first_line(path)
    return hashlib.sha256(line).hexdigest()[:_IDENTITY] if line.endswith(b"\n") else ""


def _first_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.readline()
    except FileNotFoundError:
        return b""
