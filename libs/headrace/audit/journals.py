"""Journals: files to which services append lines, and whose batches control writes into the audit's chain.

A journal is written before what it says is done, by whoever does it; so it is complete also while nobody follows. Files that grow
too large may be renamed to FILE.1, FILE.2 and so on: a file is identified by its first line, not by its name. A line that told of
a person may be replaced by its hash (`erasure.py`), so the hash of a batch still is that of its lines.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from headrace.state import json_lines

_IDENTITY = 16
_ERASED = re.compile(rb'\{"erased": "([0-9a-f]{64})"\}')


@dataclass(frozen=True, slots=True)
class JournalPosition:
    """A position in a journal: after line `line` (from 1; 0: at the start) of `file`, whose first line's hash begins so.

    `sha256`: of that line.
    """

    file: str = ""
    line: int = 0
    sha256: str = ""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> JournalPosition:
        """Inverse of `to_bytes`."""
        found = json.loads(content)
        return cls(found["file"], found["line"], found["sha256"])


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines `first` to `last` of a file; they end `end` bytes into it. `sha256`: over the SHA-256s of the lines, hexadecimal."""

    file: str
    first: int
    last: int
    end: int
    sha256: str

    def details(self) -> dict[str, str]:
        """As the audit's line has them."""
        found = {name: str(value) for name, value in asdict(self).items()}
        return {**found, "count": str(self.last - self.first + 1)}

    @classmethod
    def of(cls, details: Mapping[str, str]) -> Batch:
        """Inverse of `details`. Raises KeyError, ValueError."""
        first, last, end = (int(details[name]) for name in ("first", "last", "end"))
        return cls(details["file"], first, last, end, details["sha256"])


@dataclass(frozen=True, slots=True)
class Reading:
    """What there is after a position. `batch` None: nothing. `position`: after it. `torn`: numbers of lines that a power loss or
    a full disk cut off. `problem`: what happened to the journal; then nothing was read, and it is read again from its start."""

    position: JournalPosition
    batch: Batch | None = None
    torn: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """One journal. Not for several threads at a time."""

    name: str
    path: Path
    # File → its inode, the position that was read last, and where its line begins. Lines need not be counted again.
    _offsets: dict[str, tuple[int, JournalPosition, int]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def read(self, after: JournalPosition, limit: int) -> Reading:
        """Up to `limit` lines of one file after a position; nothing while somebody writes. What is returned is durable. Raises
        OSError."""
        with self._locked(fcntl.LOCK_SH | fcntl.LOCK_NB) as quiet:
            if not quiet:
                return Reading(after)
            files = self.files()
            if not after.file:
                start = 0
            elif not files:
                return Reading(JournalPosition(), problem="its file is not there any more")
            else:
                names = [identity for _, identity in files]
                if after.file not in names:
                    problem = (
                        "the file that was read last is not there any more, or its first line was altered"
                    )
                    return Reading(JournalPosition(), problem=problem)
                start = names.index(after.file)
            for path, identity in files[start:]:
                position = after if identity == after.file else JournalPosition(identity)
                found = self._read(path, position, limit)
                if found.batch is not None or found.problem:
                    return found
        return Reading(after)

    def files(self) -> list[tuple[Path, str]]:
        """Files with at least one line, oldest first, each with what identifies it. Raises OSError."""
        found = [(path, _identity(path)) for path in self.paths()]
        return [(path, identity) for path, identity in found if identity]

    def paths(self) -> list[Path]:
        """Its files, oldest first; the last may not be there."""
        numbered = (p for p in self.path.parent.glob(f"{self.path.name}.*") if p.suffix[1:].isdecimal())
        return [*sorted(numbered, key=lambda p: -int(p.suffix[1:])), self.path]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody writes or reads it meanwhile. Blocks."""
        with self._locked(fcntl.LOCK_EX):
            yield

    def _read(self, path: Path, after: JournalPosition, limit: int) -> Reading:
        with path.open("rb") as file:
            begin = self._seek(file, after)
            if begin is None:
                problem = f"{path.name} is shorter than it was, or line {after.line} of it was altered"
                return Reading(JournalPosition(), problem=problem)
            digests: list[bytes] = []
            cut_off = []
            while len(digests) < limit and (line := file.readline()).endswith(b"\n"):
                digests.append(line_digest(line))
                begin, end = file.tell() - len(line), file.tell()
                if json_lines.MARK in line:
                    cut_off.append(after.line + len(digests))
            if not digests:
                return Reading(after)
            # Its writer may have been killed before it did so.
            os.fsync(file.fileno())
            position = JournalPosition(after.file, after.line + len(digests), digests[-1].hex())
            self._offsets[after.file] = (os.fstat(file.fileno()).st_ino, position, begin)
        batch = Batch(after.file, after.line + 1, position.line, end, batch_digest(digests))
        return Reading(position, batch, tuple(cut_off))

    def _seek(self, file: IO[bytes], after: JournalPosition) -> int | None:
        """Puts the file behind a line, and returns where that begins; None: it does not have the line any more."""
        here = os.fstat(file.fileno()).st_ino
        inode, position, begin = self._offsets.get(after.file, (0, after, 0))
        if (inode, position) == (here, after):
            file.seek(begin)
            if _is_at(file.readline(), after):
                return begin
            # Another file may have got the number of the one that was replaced: offsets are others there.
            file.seek(0)
        begin, line = 0, b""
        for _ in range(after.line):
            begin += len(line)
            line = file.readline()
        if not _is_at(line, after):
            return None
        self._offsets[after.file] = (here, after, begin)
        return begin

    @contextmanager
    def _locked(self, how: int) -> Iterator[bool]:
        """False: somebody writes now; a writer may have been stopped with the lock in its hand."""
        beside = self.path.with_name(f".{self.path.name}.lock")
        try:
            # Writers of a file that is renamed lock another one (`state/security.py`).
            lock = os.open(beside if beside.exists() else self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield True  # nobody has written yet
            return
        try:
            fcntl.flock(lock, how)
        except BlockingIOError:
            os.close(lock)
            yield False
            return
        try:
            yield True
        finally:
            os.close(lock)


def _is_at(line: bytes, position: JournalPosition) -> bool:
    """Whether a line is the one after which to read on."""
    return not position.line or (line.endswith(b"\n") and line_digest(line).hex() == position.sha256)


def line_digest(line: bytes) -> bytes:
    """SHA-256 of a line without its end, or of the line that was erased there."""
    line = line.removesuffix(b"\n")
    erased = erased_digest(line)
    return hashlib.sha256(line).digest() if erased is None else bytes.fromhex(erased)


def erased_digest(line: bytes) -> str | None:
    """SHA-256 of the line that was erased here, hexadecimal; None: none was."""
    found = _ERASED.fullmatch(line.removesuffix(b"\n"))
    return None if found is None else found[1].decode()


def batch_digest(digests: list[bytes]) -> str:
    """What a batch says of the hashes of its lines."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _identity(path: Path) -> str:
    """What identifies a file; empty: it has no line yet."""
    try:
        with path.open("rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return ""
    return line_digest(line).hex()[:_IDENTITY] if line.endswith(b"\n") else ""
