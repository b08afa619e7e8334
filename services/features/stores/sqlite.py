"""Reads Feast's SQLite online store directly: one statement for all views and keys of a batch.

A table per view, `<project>_<view>`, holds a row per entity and feature (entity_key, feature_name, value, event_ts).
A few keys are read on the event loop itself: 5 views of an entity take 20 µs, while a switch to a thread and back
takes 80 µs. Such a read never waits for a lock: if the database is locked, the read moves to a thread at once. After a slow
read, which shows that the disk is slow, all reads use threads for a while.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.features.feast.layout import sqlite_path
from services.features.feast.repository import Repository
from services.features.stores.answers import answered
from services.features.stores.online_store import KeyQuery, OnlineStore, Rows, StoredRow, StoreError

_INLINE_KEYS = 256
_SLOW_S = 0.01
_WARY_S = 1.0
# How often to check whether the file was replaced by another one.
_LOOK_S = 0.5
# The most parameters of one statement; SQLite allows 32,766.
_MAX_KEYS = 8192
_STATEMENTS = 256

Found = list[tuple[int, bytes, str, bytes, int]]


def open_store(repository: Repository, threads: ThreadPoolExecutor, _timeout_s: float) -> OnlineStore:
    return SqliteStore(sqlite_path(repository), repository.project, threads)


class SqliteStore:
    """An `OnlineStore`. Reads only; Feast writes."""

    def __init__(
        self,
        path: Path,
        project: str,
        threads: ThreadPoolExecutor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing yet: the file may be created later. `clock`: monotonic seconds."""
        self._path = path
        self._project = project
        self._threads = threads
        self._clock = clock
        self._local: sqlite3.Connection | None = None
        self._file = -1
        self._look_at = 0.0
        self._wary_until = 0.0
        self._epochs = 0
        self._version = -1
        self._of_thread = threading.local()
        self._texts: dict[tuple[tuple[str, int], ...], str] = {}

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        began = self._clock()
        if began >= self._wary_until and sum([len(ask.keys) for ask in asks]) <= _INLINE_KEYS:
            try:
                found = self._query(self._connection(), asks)
            except sqlite3.Error as error:
                if not _is_busy(error):
                    raise _failed(error) from error
            else:
                if self._clock() - began > _SLOW_S:
                    self._wary_until = self._clock() + _WARY_S
                return found
        return await self._in_thread(asks, timeout_s)

    def epoch(self) -> int:
        """See online_store.OnlineStore: every write to the database begins a new epoch. Takes 3 µs."""
        if self._clock() < self._wary_until:
            return -1
        try:
            version: int = self._connection().execute("PRAGMA data_version").fetchone()[0]
        except (sqlite3.Error, StoreError):
            return -1
        if version != self._version:
            self._version = version
            self._epochs += 1
        return self._epochs

    def watch(self, changed: Callable[[bytes], None]) -> None:
        """See online_store.OnlineStore: every change begins a new epoch, so there are no single changes to report."""

    async def close(self) -> None:
        """See online_store.OnlineStore. The connections of threads are closed when their threads end."""
        if self._local is not None:
            self._local.close()
            self._local = None

    def _connection(self) -> sqlite3.Connection:
        now = self._clock()
        if self._local is not None and now < self._look_at:
            return self._local
        self._look_at = now + _LOOK_S
        file = _identity(self._path)
        if self._local is None or file != self._file:
            if self._local is not None:
                self._local.close()
                # Drop it before opening another one: opening fails if the file is gone.
                self._local = None
            self._local, self._file, self._version = _open(self._path, 0.0), file, -1
        return self._local

    async def _in_thread(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        job = asyncio.get_running_loop().run_in_executor(self._threads, self._read_blocking, asks, timeout_s)
        return await answered(job, timeout_s, "SQLite")

    def _read_blocking(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        file = _identity(self._path)
        try:
            if getattr(self._of_thread, "file", None) != file:
                self._of_thread.connection, self._of_thread.file = _open(self._path, timeout_s), file
            return self._query_in_parts(self._of_thread.connection, asks)
        except sqlite3.Error as error:
            raise _failed(error) from error

    def _query(self, connection: sqlite3.Connection, asks: Sequence[KeyQuery]) -> Sequence[Rows]:
        shapes: list[tuple[str, int]] = []
        parameters: list[bytes] = []
        for view, keys in asks:
            # Sizes are powers of two (a key may be repeated), so there are few different statements and all stay prepared.
            count = len(keys)
            size = 1 if count == 1 else 1 << max(count - 1, 0).bit_length()
            shapes.append((view.stored, size))
            parameters += keys
            if size > count:
                parameters += [keys[0] if keys else b""] * (size - count)
        shape = tuple(shapes)
        text = self._texts.get(shape)
        if text is None:
            text = self._compose(shape)
        try:
            return _rows(asks, connection.execute(text, parameters).fetchall())
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise StoreError(f"SQLite holds rows that Feast did not write: {type(error).__name__}") from error

    def _query_in_parts(self, connection: sqlite3.Connection, asks: Sequence[KeyQuery]) -> Sequence[Rows]:
        if sum([len(ask.keys) for ask in asks]) <= _MAX_KEYS:
            return self._query(connection, asks)
        results: list[Rows] = []
        for view, keys in asks:
            rows: list[StoredRow | None] = []
            for start in range(0, len(keys), _MAX_KEYS):
                rows += self._query(connection, [KeyQuery(view, keys[start : start + _MAX_KEYS])])[0]
            results.append(rows)
        return results

    def _compose(self, shape: tuple[tuple[str, int], ...]) -> str:
        parts = []
        for i, (stored, size) in enumerate(shape):
            table = f"{self._project}_{stored}".replace('"', '""')
            test = "= ?" if size == 1 else f"IN ({','.join('?' * size)})"
            parts.append(
                f'SELECT {i}, entity_key, feature_name, value, event_ts FROM "{table}" WHERE entity_key {test}'  # noqa: S608 - quoted
            )
        if len(self._texts) >= _STATEMENTS:
            self._texts.clear()
        text = self._texts[shape] = " UNION ALL ".join(parts)
        return text


def _rows(asks: Sequence[KeyQuery], found: Found) -> Sequence[Rows]:
    """Collects features into rows. An entity's event time is the time of its oldest feature; Feast writes them together."""
    gathered: list[dict[bytes, list[Any]]] = [{} for _ in asks]
    # Of an entity: its event time, then its values. The features of an entity come one after the other.
    at, of, row = -1, b"", list[Any]()
    places: Mapping[str, int] = {}
    for i, key, name, value, event_time in found:
        if key != of or i != at:
            at, of, places = i, key, asks[i].view.places
            row = gathered[i].setdefault(key, [event_time, *asks[i].view.nulls])
        place = places.get(name)
        if place is not None:
            row[place + 1] = value
            if event_time < row[0]:
                row[0] = event_time
    seconds = float if time.timezone == 0 and not time.daylight else _local_seconds
    return [
        [(seconds(its[0]), tuple(its[1:])) if (its := rows.get(key)) else None for key in ask.keys]
        for ask, rows in zip(asks, gathered, strict=True)
    ]


def _local_seconds(stored: int) -> float:
    """Seconds since 1970. Feast treats its UTC times as local times both when it writes and when it reads them."""
    return datetime.fromtimestamp(stored).replace(tzinfo=UTC).timestamp()


def _open(path: Path, wait_s: float) -> sqlite3.Connection:
    """A read-only connection that waits up to `wait_s` for a locked database."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    # Opened on one thread and closed on another; never used by two at once.
    return sqlite3.connect(
        uri, wait_s, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS, uri=True
    )


def _identity(path: Path) -> int:
    try:
        found = path.stat()
    except OSError:
        return -1
    return hash((found.st_dev, found.st_ino))


def _is_busy(error: sqlite3.Error) -> bool:
    # Errors that Python's sqlite3 module raises itself have no SQLite error code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _failed(error: sqlite3.Error) -> StoreError:
    return StoreError(f"can't read from SQLite: {type(error).__name__}: {error}")
