"""A file of SQLite: one process has it, each commit is on the disk before it returns, reads hold no writer up."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from headrace.catalog.errors import Unavailable
from headrace.storage.database import on_begin, unavailable
from headrace.storage.mounts import remote_file_system

BUSY_S = 5.0
# What is deleted leaves nothing in free pages: persons are erased.
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "secure_delete=ON",
)
# By SQLite's primary code; extended codes first.
_WHY = {
    sqlite3.SQLITE_IOERR_WRITE: Unavailable.FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE: Unavailable.FULL,
    sqlite3.SQLITE_FULL: Unavailable.FULL,
    sqlite3.SQLITE_READONLY: Unavailable.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: Unavailable.DAMAGED,
    sqlite3.SQLITE_NOTADB: Unavailable.DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: Unavailable.DAMAGED,
    sqlite3.SQLITE_BUSY: Unavailable.IN_USE,
}


class SqliteEngine:
    """Raises RecordsUnavailableError if another process has the file, or it is on a network's file system."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self._path = path
        if remote := remote_file_system(path.parent):
            # Its locks and its shared memory are not those of one machine.
            raise unavailable(
                Unavailable.UNREACHABLE, f": it is on {remote}, and SQLite needs a disk of this machine"
            )
        if not path.exists() and not create:
            raise unavailable(Unavailable.NOT_INITIALISED)
        if create:
            with suppress(OSError):
                path.parent.mkdir(mode=0o700, exist_ok=True)
        self._lock = _locked(path.with_name(path.name + ".lock"))
        try:
            if create:
                # SQLite gives its other files the same mode. It syncs the folder with its first commit.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            path.chmod(0o600)
        except OSError as error:
            self.close()
            raise unavailable(Unavailable.UNREACHABLE) from error
        self._writing = threading.Lock()
        self._log_inode: int | None = None
        self.pool = sa.create_engine(
            "sqlite://", creator=self._connect, poolclass=sa.QueuePool, pool_size=8, hide_parameters=True
        )
        on_begin(self.pool, read="BEGIN", write="BEGIN IMMEDIATE")
        sa.event.listen(self.pool, "checkout", self._checked)

    def writing(self) -> threading.Lock:
        return self._writing

    def why(self, error: DBAPIError) -> Unavailable:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        if code & 0xFF == sqlite3.SQLITE_ERROR and "no such table" in str(error.orig):
            return Unavailable.NOT_INITIALISED
        if code & 0xFF == sqlite3.SQLITE_CANTOPEN and not self._path.exists():
            return Unavailable.NOT_INITIALISED
        return _WHY.get(code) or _WHY.get(code & 0xFF, Unavailable.UNREACHABLE)

    def again(self, error: DBAPIError) -> bool:  # noqa: ARG002  # nothing that helps: writers wait for each other before they begin
        return False

    def close(self) -> None:
        if hasattr(self, "pool"):
            self.pool.dispose()
        self._lock.close()

    def _connect(self) -> sqlite3.Connection:
        # `mode=rw`: never makes a file.
        uri = f"file:{quote(str(self._path.absolute()))}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}").close()
        except BaseException:
            connection.close()
            raise
        return connection

    def _checked(self, _: sqlite3.Connection, entry: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
        """A file that was removed or replaced would go on without a name: what is written to it is lost."""
        found, log = _inode(self._path), self._path.with_name(self._path.name + "-wal")
        if entry.info.setdefault("inode", found) == found:
            self._log_inode = _inode(log)
            return
        # Its log would be taken for the log of the file that has its name now.
        if self._log_inode is not None and _inode(log) == self._log_inode:
            log.unlink()
            log.with_name(self._path.name + "-shm").unlink(missing_ok=True)
        raise InvalidatePoolError


def _locked(path: Path) -> BinaryIO:
    """A file that this process alone has locked, and that says its number; the kernel unlocks it when the process ends."""
    try:
        lock = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)  # noqa: PTH123, SIM115  # its mode; stays open
    except OSError as error:
        raise unavailable(Unavailable.UNREACHABLE) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with lock:
            holder = lock.read(20).decode(errors="replace")
        raise unavailable(Unavailable.IN_USE, f" (process {holder})" if holder else "") from None
    # A full disk: the lock holds without the number.
    with suppress(OSError):
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
    return lock


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
