"""Segments with the lines that tell of persons, and the salts of their commitments. They can be deleted; the log stays valid.

A segment is a file of JSON lines, named by day and number: `20261126-0001.jsonl`. An erased line keeps its commitment, so that
what was erased can be told from what is missing. All processes of the machine share the folder by a lock.

With keys (setting `encryption`) the lines of one `append` are one sealed line (encryption/lines.py), bound to the name of the
segment. Commitments are to what was sealed, so the log is the same with and without, and after a rotation.
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
from headrace.encryption import DamagedError, LockedError, Sealer, Seen
from headrace.encryption import lines as sealing
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


@dataclass(frozen=True, slots=True)
class Segment:
    """What of a segment can be read. `locked`: why some of it can't be opened here; empty: all can. `damaged`: some was altered
    after it was sealed, or cut off."""

    payloads: dict[str, Payload]
    locked: str = ""
    damaged: bool = False


class Payloads:
    """The segments in `folder`. `clock`: the time in UTC. `sealer` None: new lines are plain."""

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], datetime],
        max_bytes: int = MAX_SEGMENT,
        sealer: Sealer | None = None,
    ) -> None:
        self.folder = folder
        self.sealer = sealer
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
            if self.sealer is not None:
                data = sealing.seal_line(self.sealer, data, _identity(segment))
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
        """The payloads of a segment, by commitment; what is not readable is left out. Raises LockedError, OSError."""
        found = self.opened(segment)
        if found.locked:
            raise LockedError(f"segment {segment}: {found.locked}")
        return found.payloads

    def opened(self, segment: str) -> Segment:
        """As `read`, with what can be opened here. Raises OSError; KeysAwayError: the keys can't be reached now."""
        payloads: dict[str, Payload] = {}
        locked, damaged = "", False
        for line in self._lines(segment):
            try:
                parts = self._parts(segment, line)
            except LockedError as error:
                locked = str(error)
                continue
            except DamagedError:
                damaged = True
                continue
            payloads |= {p.commitment: p for part in parts if (p := _decoded(part)) is not None}
        return Segment(payloads, locked, damaged)

    def erase(self, segment: str, commitments: Iterable[str]) -> int:
        """Erases these lines with their salts. Returns how many there were.

        Raises LockedError, OSError: none of the segment was erased.
        """
        named, found = set(commitments), 0
        with self._locked():
            kept = []
            for line in self._lines(segment):
                erased, count = self._erased(segment, line, named)
                kept.append(erased)
                found += count
            if found:
                atomic.write(self.path(segment), b"".join(kept), mode=0o600)
        return found

    def look(self, segment: str) -> Seen:
        """Which keys a segment needs. Raises OSError."""
        return sealing.look(self.path(segment))

    def rewrap(self, segment: str, sealer: Sealer) -> bool:
        """See encryption.stores.Store. Raises KeysAwayError, LockedError, OSError."""
        with self._locked():
            return sealing.rewrap(self.path(segment), sealer)

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

    def _parts(self, segment: str, line: bytes) -> list[bytes]:
        """The lines that a line of the file holds. Raises KeysAwayError, LockedError, DamagedError."""
        if not sealing.is_sealed_line(line):
            return [line]
        return sealing.open_line(self.sealer, line, _identity(segment)).splitlines(keepends=True)

    def _erased(self, segment: str, line: bytes, named: set[str]) -> tuple[bytes, int]:
        """A line of the file without the named ones, and how many it had of them. Raises KeysAwayError, LockedError."""
        try:
            parts = self._parts(segment, line)
        except DamagedError:
            return line, 0
        kept, count = [], 0
        for part in parts:
            payload = _decoded(part)
            if payload is not None and payload.commitment in named and not payload.erased:
                part, count = Payload(payload.commitment, b"", "").encode(), count + 1
            kept.append(part)
        if not count:
            return line, 0
        content = b"".join(kept)
        if not sealing.is_sealed_line(line):
            return content, count
        assert self.sealer is not None, "it has opened the line"
        return sealing.seal_line(self.sealer, content, _identity(segment)), count

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


def _identity(segment: str) -> str:
    return f"audit/persons/{segment}"


def _decoded(line: bytes) -> Payload | None:
    try:
        about = json.loads(line.decode())
        salt = base64.b64decode(about.get("salt", ""), validate=True)
        named, text = about["commitment"], about.get("text", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        return None
    return Payload(named, salt, text) if isinstance(named, str) and isinstance(text, str) else None
