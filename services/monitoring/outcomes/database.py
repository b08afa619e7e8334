"""The SQLite file: opened when it is needed, put aside when it is damaged, tried again when the disk was full."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

# Another process of this machine may be writing.
_BUSY_S = 5.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY = 0xFF
# Damaged files that are kept for a look.
_PUT_ASIDE = 3


class Database:
    """One connection, used by one thread at a time. `path` None: in memory. `on_damage`: called when a file was put aside.
    `schema`: makes the tables, if they are not there; `holds`: what is in it, for the log."""

    def __init__(
        self,
        path: Path | None,
        log: Log,
        on_damage: Callable[[], None] = lambda: None,
        *,
        schema: str,
        holds: str,
    ) -> None:
        self._path = path
        self._schema = schema
        self._holds = holds
        self._log = log
        self._on_damage = on_damage
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def transaction(self, *, reads_only: bool = False) -> Iterator[sqlite3.Connection]:
        """All of what is done in it is kept, or nothing. `reads_only`: others may write meanwhile. Raises StorageError."""
        try:
            connection = self._opened()
            connection.execute("BEGIN" if reads_only else "BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        except OSError as error:
            raise StorageError(str(error.strerror).lower()) from error

    def size_bytes(self) -> int:
        """Size of the file, without what was removed from it. Raises StorageError."""
        with self.transaction(reads_only=True) as connection:
            [[pages, free, size]] = connection.execute(
                "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
            )
        return int((pages - free) * size)

    def shrink(self) -> None:
        """Gives the room of what was removed back to the disk. Raises StorageError."""
        try:
            with closing(self._opened().execute("PRAGMA incremental_vacuum")) as cursor:
                cursor.fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path is not None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = ":memory:" if self._path is None else self._path
            connection = sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                # What was accepted must survive the machine.
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(self._schema)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _failed(self, error: sqlite3.Error) -> StorageError:
        self.close()
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code in _DAMAGED and self._path is not None:
            try:
                self._put_aside(self._path, error)
            except OSError as refused:
                return StorageError(
                    f"its file is damaged, and can't be put aside: {refused.strerror}".lower()
                )
            return StorageError("its file was damaged and has been put aside")
        return StorageError(str(error) if code != sqlite3.SQLITE_CANTOPEN else "its file can't be opened")

    def _put_aside(self, path: Path, error: sqlite3.Error) -> None:
        aside = [path.with_name(f"{path.name}.damaged.{n}") for n in range(1, _PUT_ASIDE + 1)]
        for old, new in zip(reversed(aside[:-1]), reversed(aside[1:]), strict=True):
            if old.exists():
                old.replace(new)
        # They belong to the damaged file, and would be applied to the new one.
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.replace(aside[0])
        self._log.error(
            f"the file of {self._holds} was damaged; it was put aside and a new one begun",
            error=str(error),
            file=str(aside[0]),
        )
        self._on_damage()
