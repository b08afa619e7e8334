"""The SQLite file of one process: ended windows by series, and the references of error rates."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from services.monitoring.drift.ports import Series, Version
from services.monitoring.drift.windows import KEPT_S, Span
from services.monitoring.outcomes.database import Database
from services.monitoring.ports import Log

# `id` rises with each window that is written, so that another process reads only what is new.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, revision TEXT NOT NULL, arm TEXT NOT NULL,
    traffic TEXT NOT NULL, layout TEXT NOT NULL, span TEXT NOT NULL, start REAL NOT NULL, "end" REAL NOT NULL,
    sketch BLOB NOT NULL, UNIQUE (pipeline, revision, arm, traffic, layout, span, start));
CREATE TABLE IF NOT EXISTS concepts (
    pipeline TEXT NOT NULL, arm TEXT NOT NULL, runs TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (pipeline, arm, runs)
    ) WITHOUT ROWID;
"""
_READ = (
    'SELECT id, span, start, "end", sketch FROM windows WHERE pipeline = ? AND revision = ? AND arm = ? AND traffic = ?'
    " AND layout = ? AND id > ? ORDER BY start, id"
)
_BUSY_S = 1.0


class StoredWindow(NamedTuple):
    """A window as bytes. `id`: rises with each that is written; 0: not written yet."""

    id: int
    span: Span
    start: float
    end: float
    sketch: bytes


class WindowFile:
    """Of this process. Methods block and raise StorageError. A file that is damaged is put aside, and `on_damage` called."""

    def __init__(self, path: Path, log: Log, on_damage: Callable[[], None]) -> None:
        self._database = Database(path, log, on_damage, schema=_SCHEMA, holds="the windows of drift")

    def write(
        self,
        windows: Mapping[tuple[Series, str], Sequence[StoredWindow]],
        concepts: Mapping[Version, Mapping[str, Any]],
        now: float,
    ) -> None:
        """Adds windows, by series and layout; replaces the states of all versions; removes what is too old."""
        with self._database.transaction() as connection:
            connection.executemany(
                'INSERT OR REPLACE INTO windows (pipeline, revision, arm, traffic, layout, span, start, "end", sketch)'
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (*_key(series), layout, w.span, w.start, w.end, w.sketch)
                    for (series, layout), found in windows.items()
                    for w in found
                ],
            )
            connection.execute("DELETE FROM concepts")
            connection.executemany(
                "INSERT INTO concepts VALUES (?, ?, ?, ?)",
                [(*version, json.dumps(state)) for version, state in concepts.items()],
            )
            for span, kept_s in KEPT_S.items():
                connection.execute('DELETE FROM windows WHERE span = ? AND "end" < ?', (span, now - kept_s))

    def windows(self, series: Series, layout: str) -> list[StoredWindow]:
        """Of a series that were counted by this layout, the oldest first."""
        with self._database.transaction(reads_only=True) as connection:
            return _stored(connection.execute(_READ, (*_key(series), layout, 0)))

    def concepts(self) -> dict[Version, Any]:
        """States of versions, as JSON values."""
        with self._database.transaction(reads_only=True) as connection:
            rows = connection.execute("SELECT pipeline, arm, runs, state FROM concepts").fetchall()
        return {Version(pipeline, arm, runs): json.loads(state) for pipeline, arm, runs, state in rows}

    def close(self) -> None:
        self._database.close()


def read_other(path: Path, series: Series, layout: str, after: int) -> list[StoredWindow]:
    """Windows of another process's file that were written after the id `after`. Raises OSError, sqlite3.Error.

    The file is only read: if it is damaged, its own process puts it aside.
    """
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=_BUSY_S, uri=True)) as connection:
        return _stored(connection.execute(_READ, (*_key(series), layout, after)))


def _key(series: Series) -> tuple[str, str, str, str]:
    return series.pipeline, series.revision, series.arm, series.traffic.value


def _stored(rows: Iterable[Any]) -> list[StoredWindow]:
    return [StoredWindow(*row) for row in rows]
