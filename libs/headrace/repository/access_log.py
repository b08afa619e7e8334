"""The access log records which models were added, loaded, refused, relabelled and removed. It is a hash chain.

Each line is a JSON object with the SHA-256 of the line before. A line that is changed or removed breaks the chain. Lines that
are removed at the end do not break it: to detect that, keep the last hash in another place.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from headrace.repository.errors import RepositoryError

Event = Literal["added", "loaded", "refused", "unloaded", "labelled", "unlabelled", "removed", "resigned"]
_TAIL = 64 << 10
_NAME = 128
_TEXT = 2000
FIRST = "0" * 64


class AccessLog:
    """Appends to the file `path`. `who`: the user or service that acts. Threads and processes of one machine may share it."""

    def __init__(
        self, path: Path, who: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = path
        self._who = who
        self._clock = clock

    def record(self, event: Event, model: str, version: str, **about: str) -> None:
        """Appends a line; it is on the disk once this returns. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            tail = os.pread(descriptor, _TAIL, max(size - _TAIL, 0))
            entry = {
                "at": self._clock().isoformat(timespec="milliseconds"),
                "event": event,
                "model": model[:_NAME],
                "version": version[:_NAME],
                "who": self._who,
                # Shortened: a reason may quote text of an untrusted file.
                **{k: v[:_TEXT] for k, v in about.items() if v},
                "previous": _last_hash(tail),
            }
            # If a power loss left an incomplete line, the new one starts on a line of its own.
            start = b"\n" if tail and not tail.endswith(b"\n") else b""
            line = start + json.dumps(entry, ensure_ascii=False).encode() + b"\n"
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)  # an incomplete line would break the chain
                raise
        finally:
            os.close(descriptor)


def record(log: AccessLog | None, event: Event, model: str, version: str, **about: str) -> None:
    """Records an event, if there is a log. Raises RepositoryError if it can't be written."""
    if log is None:
        return
    try:
        log.record(event, model, version, **about)
    except OSError as error:
        problem = f"the access log {log.path} can't be written ({error.strerror})"
        raise RepositoryError(
            model, version, problem, "mend disk or rights: what can't be recorded is not done"
        ) from error


def entries(path: Path) -> Iterator[dict[str, str]]:
    """The lines, oldest first. Raises ValueError naming the line at which the chain is broken, OSError."""
    expected = FIRST
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict) or entry.get("previous") != expected:
                raise ValueError(
                    f"{path}, line {number}: the chain is broken; this line or the one before was altered or removed"
                )
            expected = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
            yield entry


def _last_hash(tail: bytes) -> str:
    lines = tail.rstrip(b"\n").rsplit(b"\n", 1)
    return hashlib.sha256(lines[-1]).hexdigest() if lines[-1] else FIRST
