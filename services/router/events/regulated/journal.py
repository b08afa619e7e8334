"""The journal: a SQLite file in which events of regulated predictions wait that monitoring could not take."""

from __future__ import annotations

import errno
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple

# What other processes of the machine may hold the file for.
_LOCK_WAIT_S = 5.0
# Ids are never given twice: two processes may collect the same rows, and the slower one removes them once more.
_TABLES = """
PRAGMA auto_vacuum = FULL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS waiting (
  id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, crc INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS refused (id INTEGER PRIMARY KEY, content BLOB NOT NULL, why TEXT NOT NULL);
"""
_SIZE = (
    "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)


class Row(NamedTuple):
    """A message that waits."""

    id: int
    crc: int
    content: bytes

    @property
    def sound(self) -> bool:
        """Whether it is what was written."""
        return zlib.crc32(self.content) == self.crc


class Journal:
    """Processes of one machine may share it. Methods block, may be called by several threads, and raise OSError; the next call
    opens the file anew, also if it was moved or removed meanwhile. `max_bytes`: of the file."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._path = folder / "journal.sqlite"
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._db: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None

    def append(self, epoch: int, content: bytes) -> None:
        """A message of this stream. It is on the disk when this returns."""
        with self._database() as db:
            if db.execute(_SIZE).fetchone()[0] + len(content) > self._max_bytes:
                raise OSError(
                    errno.ENOSPC, "the journal is full, as the monitoring service does not collect it"
                )
            row = epoch, zlib.crc32(content), content
            db.execute("INSERT INTO waiting (epoch, crc, content) VALUES (?, ?, ?)", row)

    def oldest(self, most_bytes: int) -> list[Row]:
        """The oldest messages, all of one stream, at least one if there is any, together about `most_bytes`."""
        found, size = list[Row](), 0
        with self._database() as db:
            rows = db.execute(
                "SELECT id, crc, content FROM waiting WHERE epoch = (SELECT epoch FROM waiting ORDER BY id LIMIT 1)"
                " ORDER BY id"
            )
            for row in map(Row._make, rows):
                size += len(row.content)
                if found and size > most_bytes:
                    break
                found.append(row)
        return found

    def settle(self, rows: Sequence[Row], why: str = "") -> None:
        """They wait no longer. `why`: monitoring can't take them; they are set aside."""
        with self._database() as db:
            if why:
                aside = [(row.id, row.content, why) for row in rows]
                db.executemany("INSERT OR REPLACE INTO refused VALUES (?, ?, ?)", aside)
            db.executemany("DELETE FROM waiting WHERE id = ?", [(row.id,) for row in rows])

    def writable(self) -> bool:
        """Whether something could be written now, as far as can be seen without writing."""
        try:
            with self._database() as db:
                free: bool = db.execute(_SIZE).fetchone()[0] < self._max_bytes
            return free and os.access(self._path, os.W_OK)
        except OSError:
            return False

    def size_bytes(self) -> int:
        """Size of the file; 0 while nothing waits."""
        with self._database() as db:
            waits = db.execute("SELECT 1 FROM waiting LIMIT 1").fetchone()
            size: int = db.execute(_SIZE).fetchone()[0] if waits else 0
        return size

    def close(self) -> None:
        """Until the next call."""
        with self._lock:
            self._close()

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """In one transaction."""
        with self._lock:
            try:
                if self._opened is not None and not self._is_there(self._opened):
                    self._close()
                with self._db or self._open() as db:
                    yield db
            except (sqlite3.Error, OSError) as error:
                self._close()
                if isinstance(error, sqlite3.Error):
                    raise OSError(errno.EIO, f"SQLite: {error}") from error
                raise

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        self._db = sqlite3.connect(self._path, timeout=_LOCK_WAIT_S, check_same_thread=False)
        self._opened = self._path.stat()
        self._db.executescript(_TABLES)
        return self._db

    def _is_there(self, opened: os.stat_result) -> bool:
        try:
            return os.path.samestat(opened, self._path.stat())
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        db, self._db, self._opened = self._db, None, None
        if db is not None:
            db.close()
