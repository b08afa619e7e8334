"""Files of JSON lines that only grow, and torn lines: what a power loss has left of the last one. Nobody was answered on its
account.

Whoever appends next ends it with a mark: a record separator, which no JSON text holds, and a JSON object.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from headrace.state import atomic

MARK = b'\x1e{"torn": true'
# Another process holds the lock only for one batch.
_LOCK_WAIT_S, _LOCK_POLL_S = 2.0, 0.005


class Torn(NamedTuple):
    """`line`: its number, from 1; `at`: bytes into the file; `content`: what there is of it."""

    line: int
    at: int
    content: bytes


def append_entry(path: Path, entry: Mapping[str, object]) -> None:
    """As `append`, a JSON object as one line; the folder is made if it is not there.

    A line should stay below 64 KiB: the writer shortens what strangers sent.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, json.dumps(entry, ensure_ascii=False).encode() + b"\n")


def append(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Appends whole lines; they are on the disk once this returns. Threads and processes of one machine may do so at once.

    Raises OSError: nothing was appended.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        start = os.fstat(descriptor).st_size
        if start == 0:
            atomic.sync_folder(path.parent)  # so that new and renamed files exist after a crash
        try:
            torn = os.pread(descriptor, 1, max(start - 1, 0)) not in (b"", b"\n")
            left = memoryview(MARK + b"}\n" + data if torn else data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError:
            # The disk became full and only a part was written. Remove it: the whole batch is written again later.
            os.ftruncate(descriptor, start)
            raise
    finally:
        os.close(descriptor)


def append_rotated(path: Path, data: bytes, max_bytes: int | None = None, old: int = 1) -> None:
    """As `append`, to a file that is renamed once it has `max_bytes`: FILE to FILE.1, FILE.1 to FILE.2, and so on; `old` of them
    are left. `max_bytes` None: whoever else writes the file renames it. Blocks. Raises OSError: nothing was written."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(lock)
        if max_bytes is not None:
            with suppress(FileNotFoundError):
                if path.stat().st_size >= max_bytes:
                    _rotate(path, old)
        append(path, data)
    finally:
        os.close(lock)


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects, oldest first, without torn lines. Raises ValueError naming a line that is none, OSError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if MARK in line or not line.endswith(b"\n"):
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if not isinstance(entry, dict):
                raise ValueError(f"{path}, line {number}: it is damaged or was altered")  # noqa: TRY004 - of a file
            yield entry


def torn_lines(path: Path) -> list[Torn]:
    """The torn lines of a file, the last one too if nobody has ended it yet. Raises OSError."""
    content = path.read_bytes()
    if content.endswith(b"\n") and MARK not in content:
        return []
    found, at = [], 0
    for number, line in enumerate(content.split(b"\n"), 1):
        last = at + len(line) == len(content)
        if line and (last or MARK in line):
            found.append(Torn(number, at, line.partition(MARK)[0]))
        at += len(line) + 1
    return found


def _lock(lock: int) -> None:
    """Waits for the other processes. Raises OSError if one of them does not release the lock in time."""
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_LOCK_POLL_S)
        else:
            return


def _rotate(path: Path, old: int) -> None:
    for number in range(old - 1, 0, -1):
        with suppress(FileNotFoundError):
            Path(f"{path}.{number}").replace(f"{path}.{number + 1}")
    path.replace(f"{path}.1")
