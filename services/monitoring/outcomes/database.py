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
# `exposures.judged`: whether an outcome said that the prediction was wrong (1) or right (0).
# `judged`: sums that stay when their rows are removed for their age.
# `judgements`: those of rows with a sticky value, in the order in which they were made; no id comes twice.
# `contradictions`: outcomes that differ from the first of the same prediction and name.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS exposures (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, request_id TEXT NOT NULL, row INTEGER NOT NULL, pipeline TEXT NOT NULL,
    release INTEGER NOT NULL, arm TEXT NOT NULL, key INTEGER, labels TEXT NOT NULL, received REAL NOT NULL, judged INTEGER,
    UNIQUE (tenant, request_id, row));
CREATE TABLE IF NOT EXISTS outcomes (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, request_id TEXT NOT NULL, row INTEGER NOT NULL, name TEXT NOT NULL,
    value REAL NOT NULL, label INTEGER NOT NULL, time REAL NOT NULL, received REAL NOT NULL,
    UNIQUE (tenant, request_id, row, name));
CREATE INDEX IF NOT EXISTS exposures_by_release ON exposures (pipeline, release);
CREATE TABLE IF NOT EXISTS judged (
    pipeline TEXT NOT NULL, release INTEGER NOT NULL, arm TEXT NOT NULL, rows INTEGER NOT NULL, wrong INTEGER NOT NULL,
    PRIMARY KEY (pipeline, release, arm)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS judgements (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, release INTEGER NOT NULL, arm TEXT NOT NULL,
    key INTEGER NOT NULL, wrong INTEGER NOT NULL, received REAL NOT NULL);
CREATE INDEX IF NOT EXISTS judgements_by_pipeline ON judgements (pipeline, id);
CREATE TABLE IF NOT EXISTS contradictions (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, request_id TEXT NOT NULL, row INTEGER NOT NULL, name TEXT NOT NULL,
    value REAL NOT NULL, received REAL NOT NULL);
"""
# See accuracy/store.py. `makers`: what made predictions, with sums that stay; `followed`: up to which row a table was read.
_ACCURACY = """
CREATE TABLE IF NOT EXISTS makers (
    id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, release INTEGER NOT NULL, arm TEXT NOT NULL, version TEXT NOT NULL,
    labelled INTEGER NOT NULL DEFAULT 0, wrong INTEGER NOT NULL DEFAULT 0, UNIQUE (pipeline, release, arm, version));
CREATE TABLE IF NOT EXISTS predictions (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, request_id TEXT NOT NULL, row INTEGER NOT NULL, made_by INTEGER NOT NULL,
    time REAL NOT NULL, window REAL NOT NULL, labels TEXT NOT NULL, expected REAL, received REAL NOT NULL, judged INTEGER,
    UNIQUE (tenant, request_id, row));
CREATE TABLE IF NOT EXISTS accuracy_windows (
    made_by INTEGER NOT NULL, start REAL NOT NULL, rows INTEGER NOT NULL DEFAULT 0, labelled INTEGER NOT NULL DEFAULT 0,
    wrong INTEGER NOT NULL DEFAULT 0, expected_rows INTEGER NOT NULL DEFAULT 0, expected REAL NOT NULL DEFAULT 0,
    contradictions INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (made_by, start)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS label_delays (
    made_by INTEGER NOT NULL, start REAL NOT NULL, bucket INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (made_by, start, bucket)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS followed (what TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
"""


class Database:
    """One connection, used by one thread at a time. `path` None: in memory. `on_damage`: called when a file was put aside.
    `schema`: makes the tables, if they are not there; `holds`: what is in it, for the log."""

    def __init__(
        self,
        path: Path | None,
        log: Log,
        on_damage: Callable[[], None] = lambda: None,
        schema: str = _SCHEMA + _ACCURACY,
        holds: str = "outcomes",
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
