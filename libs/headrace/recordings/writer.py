"""Writes frames into files of bounded size in a folder of bounded size: the oldest files are removed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from headrace.recordings.frames import MAGIC, OVERHEAD, frame

SUFFIX = ".recording"


def _now() -> datetime:
    return datetime.now(UTC)


class SegmentWriter:
    """Appends frames. `max_bytes`: of all files of the folder, whoever wrote them; `max_file_bytes`: of one. Methods block, are
    called by one thread at a time, and raise OSError; after that the next call begins a new file.

    Files can be read by their owner alone: they hold what people asked. The one that is written is locked.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        max_file_bytes: int,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_file_bytes = max_file_bytes
        self._now = now
        self._file: BinaryIO | None = None
        self._size = 0
        self._serial = 0

    def append(self, contents: Iterable[bytes]) -> None:
        """Writes one frame for each content. What was written before an error stays, and can be read."""
        try:
            for content in contents:
                self._write(content)
        except OSError:
            self._abandon()
            raise

    def close(self) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write(self, content: bytes) -> None:
        coming = len(content) + OVERHEAD
        if self._file is not None and self._size + coming > self._max_file_bytes:
            self.close()
        if self._file is None:
            self._file = self._open(coming)
        whole = frame(content)
        # Unbuffered, so that a frame is either written here or an error is raised here.
        view = memoryview(whole)
        while view:
            view = view[self._file.write(view) :]
        self._size += len(whole)

    def _open(self, coming: int) -> BinaryIO:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(max(self._max_bytes - coming, 0))
        self._serial += 1
        # Sorted by name, the files are in the order of their time.
        name = f"{self._now():%Y%m%dT%H%M%S.%f}-{os.getpid()}-{self._serial}{SUFFIX}"
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        file = os.fdopen(descriptor, "wb", buffering=0)
        try:
            # Nobody else replaces it meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            file.write(MAGIC)
        except OSError:
            file.close()
            raise
        self._size = len(MAGIC)
        return file

    def _make_room(self, left: int) -> None:
        """Removes the oldest files until the others have at most `left` bytes less the largest file that may follow."""
        sizes: list[tuple[Path, int]] = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with suppress(FileNotFoundError):  # another process removed it
                sizes.append((path, path.stat().st_size))
        excess = sum(size for _, size in sizes) - max(left - self._max_file_bytes, 0)
        for path, size in sizes:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size

    def _abandon(self) -> None:
        """Closes a file that may end with a part of a frame, which readers leave out."""
        with suppress(OSError):
            self.close()
