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
from dataclasses import dataclass
from pathlib import Path

from headrace.audit.records import Place

_IDENTITY = 16


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
            first, why = _start(files, after)
            lines: list[tuple[Place, str]] = []
            for path, identity in files[first:]:
                here = after if after is not None and not why and after.file == identity else Place(identity)
                lines += _lines(path, here, limit - len(lines))
                if len(lines) == limit:
                    break
            return lines, why

    def _files(self) -> list[tuple[Path, str]]:
        """Files with at least one line, oldest first, with what they are known by."""
        numbered = (p for p in self.path.parent.glob(f"{self.path.name}.*") if p.suffix[1:].isdecimal())
        ordered = [*sorted(numbered, key=lambda p: -int(p.suffix[1:])), self.path]
        found = [(path, identity_of(path)) for path in ordered]
        return [(path, identity) for path, identity in found if identity]

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
    try:
        with path.open("rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return ""
    return hashlib.sha256(line).hexdigest()[:_IDENTITY] if line.endswith(b"\n") else ""


def _start(files: list[tuple[Path, str]], after: Place | None) -> tuple[int, str]:
    """The file to begin with, and what happened if it is not the one that it should be."""
    if after is None or not after.file:
        return 0, ""
    for number, (path, identity) in enumerate(files):
        if identity == after.file:
            if path.stat().st_size < after.end:
                return number, "its file is shorter than it was; lines may have been removed or come again"
            return number, ""
    return 0, "the file that was read last is not there any more; lines may be missing"


def _lines(path: Path, after: Place, limit: int) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    with path.open("rb") as file:
        file.seek(after.end)
        line, end = after.line, after.end
        while len(found) < limit and (content := file.readline()).endswith(b"\n"):
            line, end = line + 1, end + len(content)
            text = content[:-1].decode("utf-8", "surrogateescape")
            found.append((Place(after.file, line, end), text))
    return found
