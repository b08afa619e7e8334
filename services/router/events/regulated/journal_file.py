"""The files of the journal: frames of bytes, each on the disk when `append` returns.

The writer holds a lock on its file. A file without one is complete, whoever wrote it: also a process that was killed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from headrace.state.files.claims import new_claimed
from services.router.events.regulated.frames import MAGIC, OVERHEAD, frame, read_frames

SUFFIX, ASIDE_SUFFIX = ".journal", ".unreadable"


class JournalFiles:
    """Appends frames. `max_bytes`: of all files of the folder; `max_file_bytes`: of one. Methods block, may be called by several
    threads, and raise OSError; after that the next call begins a new file."""

    def __init__(self, folder: Path, max_bytes: int, max_file_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_file_bytes = max_file_bytes
        self._lock = Lock()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._size = 0

    def append(self, stream: int, content: bytes) -> None:
        """Writes one frame of the stream of that number; it is on the disk when this returns. What fails leaves nothing behind if
        the file can still be cut."""
        with self._lock:
            coming = len(content) + OVERHEAD
            if self._file is not None and self._size + coming > self._max_file_bytes:
                self._close()
            if self._file is None:
                self._open(stream, coming)
            assert self._file is not None, "it was just opened"
            whole = frame(content)
            try:
                view = memoryview(whole)
                while view:
                    view = view[self._file.write(view) :]
                os.fdatasync(self._file.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file.fileno(), self._size)
                self._close()
                raise
            self._size += len(whole)

    def rotate(self) -> None:
        """Closes the file, if there is one, so that it can be collected."""
        with self._lock:
            self._close()

    def complete(self) -> list[Path]:
        """Files that nobody writes, the oldest first; empty if there is no folder."""
        try:
            found = [(path.stat().st_mtime_ns, path) for path in self._folder.glob(f"*{SUFFIX}")]
        except FileNotFoundError:
            return []
        with self._lock:
            return [path for _, path in sorted(found) if path != self._path]

    def frames(self, path: Path) -> Iterator[bytes]:
        """The content of each frame of a file. Raises as `read_frames`."""
        return read_frames(path)

    def writable(self) -> bool:
        """Whether something could be written now, as far as can be seen without writing."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.access(self._folder, os.W_OK | os.X_OK) and self.size_bytes() < self._max_bytes
        except OSError:
            return False

    def size_bytes(self) -> int:
        """Size of all files."""
        size = 0
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process removed it
                size += path.stat().st_size
        return size

    def _open(self, stream: int, coming: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.size_bytes() + coming > self._max_bytes:
            raise OSError(errno.ENOSPC, "the journal is full, as the monitoring service does not collect it")
        # Other routers collect from this folder at any moment.
        descriptor, path = new_claimed(lambda: self._folder / f"{stream:016x}-{os.urandom(4).hex()}{SUFFIX}")
        file = os.fdopen(descriptor, "wb", buffering=0)
        try:
            file.write(MAGIC)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            file.close()
            raise
        self._file, self._path, self._size = file, path, len(MAGIC)

    def _close(self) -> None:
        file, self._file, self._path = self._file, None, None
        if file is not None:
            with suppress(OSError):  # it was synced by `append`
                file.close()
