"""Segments with the lines that tell of persons, and the salts of their commitments. They can be deleted; the log stays valid.

A segment is a file of JSON lines, named by day and number: `20261126-0001.jsonl`. An erased line keeps its commitment, so that
what was erased can be told from what is missing. All processes of the machine share the folder by a lock.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from headrace.audit.records import commitment
from headrace.state import atomic, torn

_SUFFIX = ".jsonl"
# A segment is rewritten as a whole when something in it is erased.
MAX_SEGMENT = 8 << 20


@dataclass(frozen=True, slots=True)
class Payload:
    """One line with its salt; both empty: it was erased."""

    commitment: str
    salt: bytes
    text: str

    @property
    def erased(self) -> bool:
        return not self.salt

    @property
    def holds(self) -> bool:
        """Whether the line is the one that was committed to."""
        return self.erased or commitment(self.salt, self.text) == self.commitment

    def encode(self) -> bytes:
        about = {
            "commitment": self.commitment,
            "salt": base64.b64encode(self.salt).decode(),
            "text": self.text,
        }
        return json.dumps(about if self.salt else {"commitment": self.commitment}).encode() + b"\n"


class Payloads:
    """The segments in `folder`. `clock`: the time in UTC."""

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], datetime],
        max_bytes: int = MAX_SEGMENT,
    ) -> None:
        self.folder = folder
        self._clock = clock
        self._max_bytes = max_bytes

    def segments(self) -> list[str]:
        """Names of the segments, oldest first."""
        return sorted(p.name.removesuffix(_SUFFIX) for p in self.folder.glob(f"[0-9]*{_SUFFIX}"))

    def append(self, payloads: Sequence[Payload]) -> str:
        """Appends them; they are on the disk once this returns. Returns the segment. Raises OSError: none was appended."""
        data = b"".join(p.encode() for p in payloads)
        with self._locked():
            segment = self._current()
            path = self.path(segment)
            new = not path.exists()
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                start = os.fstat(descriptor).st_size
                try:
                    left = memoryview(torn.ending(os.pread(descriptor, 1, max(start - 1, 0))) + data)
                    while left:
                        left = left[os.write(descriptor, left) :]
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, start)
                    raise
            finally:
                os.close(descriptor)
            if new:
                atomic.sync_folder(self.folder)
        return segment

    def read(self, segment: str) -> dict[str, Payload]:
        """The payloads of a segment, by commitment; what is not readable is left out. Raises OSError."""
        return {p.commitment: p for line in self._lines(segment) if (p := _decoded(line)) is not None}

    def erase(self, segment: str, commitments: Iterable[str]) -> int:
        """Erases these lines with their salts. Returns how many there were. Raises OSError: none of the segment was erased."""
        named, found = set(commitments), 0
        with self._locked():
            kept = []
            for line in self._lines(segment):
                payload = _decoded(line)
                if payload is not None and payload.commitment in named and not payload.erased:
                    line, found = Payload(payload.commitment, b"", "").encode(), found + 1
                kept.append(line)
            if found:
                atomic.write(self.path(segment), b"".join(kept), mode=0o600)
        return found

    def older(self, first_kept: date) -> list[str]:
        """Segments of the days before."""
        return [s for s in self.segments() if s[:8] < f"{first_kept:%Y%m%d}"]

    def beyond(self, max_bytes: int) -> list[str]:
        """The oldest segments without which all have `max_bytes` at most; never the newest. Raises OSError."""
        segments = self.segments()
        sizes = [self.path(segment).stat().st_size for segment in segments]
        found, total = [], sum(sizes)
        for segment, size in zip(segments[:-1], sizes, strict=False):
            if total <= max_bytes:
                break
            found.append(segment)
            total -= size
        return found

    def remove(self, segment: str) -> None:
        """Deletes a segment. Raises OSError."""
        with self._locked():
            self.path(segment).unlink(missing_ok=True)
            atomic.sync_folder(self.folder)

    def _lines(self, segment: str) -> list[bytes]:
        return self.path(segment).read_bytes().splitlines(keepends=True)

    def path(self, segment: str) -> Path:
        """The file of a segment."""
        return self.folder / f"{segment}{_SUFFIX}"

    def _current(self) -> str:
        today, segments = f"{self._clock():%Y%m%d}", self.segments()
        last = segments[-1] if segments else ""
        # Never before the last one: a clock that was set back must not break the order of names.
        day, _, number = max(last, f"{today}-0000").partition("-")
        if last[:8] == day and self.path(last).stat().st_size < self._max_bytes:
            return last
        return f"{day}-{int(number) + 1:04d}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _decoded(line: bytes) -> Payload | None:
    try:
        about = json.loads(line.decode())
        salt = base64.b64decode(about.get("salt", ""), validate=True)
        named, text = about["commitment"], about.get("text", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        return None
    return Payload(named, salt, text) if isinstance(named, str) and isinstance(text, str) else None
