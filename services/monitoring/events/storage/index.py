"""The index of closed segments, and what was received of each stream, in SQLite. It can be made anew from the segments."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.monitoring.events.storage.ranges import Ranges
from services.monitoring.events.storage.segments import Segment
from services.monitoring.outcomes.database import Database

# Epochs have 63 bits, as SQLite's integers are signed. A stream whose last segment is gone is kept as long as the others.
SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (
    name TEXT PRIMARY KEY, pipeline TEXT NOT NULL, revision TEXT NOT NULL, arm TEXT NOT NULL, first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS segments_by_time ON segments (last_ms);
CREATE TABLE IF NOT EXISTS segment_tenants (
    name TEXT NOT NULL, tenant TEXT NOT NULL, PRIMARY KEY (tenant, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tenants_by_segment ON segment_tenants (name);
CREATE TABLE IF NOT EXISTS streams (
    epoch INTEGER PRIMARY KEY, replica TEXT NOT NULL, noted INTEGER NOT NULL, heard REAL NOT NULL);
CREATE TABLE IF NOT EXISTS received (
    epoch INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (epoch, first)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Stream:
    """What is known of one stream of events. `noted`: those that the router made; `heard`: seconds since 1970."""

    replica: str
    noted: int
    heard: float
    received: Ranges


class EventIndex:
    """Methods block and raise StorageError; then nothing of the call was changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, segment: Segment, streams: Mapping[int, Stream]) -> None:
        """A segment was closed. `streams`: what is known of those that are in it."""
        with self._database.transaction() as connection:
            _insert(connection, segment)
            for epoch, ranges in segment.received.items():
                _receive(connection, epoch, ranges)
            for epoch, stream in streams.items():
                _hear(connection, epoch, stream)

    def replace(self, old: str, new: Segment | None) -> None:
        """A segment was written anew without some events, or (None) is gone. What was received stays received."""
        with self._database.transaction() as connection:
            _delete(connection, [old])
            if new is not None:
                _insert(connection, new)

    def remove(self, names: Iterable[str]) -> None:
        """Segments are gone."""
        with self._database.transaction() as connection:
            _delete(connection, names)

    def hear(self, streams: Mapping[int, Stream], oldest: float) -> None:
        """Keeps what was heard of streams; forgets those of which nothing was heard since `oldest`."""
        with self._database.transaction() as connection:
            for epoch, stream in streams.items():
                _hear(connection, epoch, stream)
            connection.execute("DELETE FROM streams WHERE heard < ?", (oldest,))
            connection.execute("DELETE FROM received WHERE epoch NOT IN (SELECT epoch FROM streams)")

    def streams(self) -> dict[int, Stream]:
        """All streams, with what of them is in closed segments."""
        with self._database.transaction(reads_only=True) as connection:
            rows = connection.execute("SELECT epoch, replica, noted, heard FROM streams").fetchall()
            ranges = connection.execute("SELECT epoch, first, last FROM received").fetchall()
        found = {epoch: Stream(replica, noted, heard, Ranges()) for epoch, replica, noted, heard in rows}
        for epoch, first, last in ranges:
            if epoch in found:
                found[epoch].received.add(first, last)
        return found

    def names(self) -> set[str]:
        """Names of all segments."""
        with self._database.transaction(reads_only=True) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM segments")}

    def segments(
        self, *, pipeline: str = "", tenant: str = "", first_ms: int = 0, last_ms: int = 1 << 62
    ) -> list[Segment]:
        """Segments that may hold such events, the newest first. Their tenants and streams are not read."""
        with self._database.transaction(reads_only=True) as connection:
            rows = connection.execute(
                "SELECT name, pipeline, revision, arm, first_ms, last_ms, rows, bytes FROM segments s"
                " WHERE last_ms >= ? AND first_ms <= ? AND (? = '' OR pipeline = ?)"
                " AND (? = '' OR EXISTS (SELECT 1 FROM segment_tenants t WHERE t.tenant = ? AND t.name = s.name))"
                " ORDER BY last_ms DESC, name",
                (first_ms, last_ms, pipeline, pipeline, tenant, tenant),
            ).fetchall()
        return [Segment(*row) for row in rows]

    def size_bytes(self) -> int:
        """Bytes of all segments."""
        with self._database.transaction(reads_only=True) as connection:
            [[size]] = connection.execute("SELECT COALESCE(SUM(bytes), 0) FROM segments")
        return int(size)

    def close(self) -> None:
        self._database.close()


def _insert(connection: sqlite3.Connection, s: Segment) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (s.name, s.pipeline, s.revision, s.arm, s.first_ms, s.last_ms, s.rows, s.bytes),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO segment_tenants VALUES (?, ?)", [(s.name, tenant) for tenant in s.tenants]
    )


def _delete(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    gone = [(name,) for name in names]
    connection.executemany("DELETE FROM segments WHERE name = ?", gone)
    connection.executemany("DELETE FROM segment_tenants WHERE name = ?", gone)


def _receive(connection: sqlite3.Connection, epoch: int, more: Ranges) -> None:
    # Another process may have closed segments of the same stream.
    known = connection.execute("SELECT first, last FROM received WHERE epoch = ?", (epoch,)).fetchall()
    ranges = Ranges([*known, *more.ranges()])
    connection.execute("DELETE FROM received WHERE epoch = ?", (epoch,))
    connection.executemany("INSERT INTO received VALUES (?, ?, ?)", [(epoch, *r) for r in ranges.ranges()])


def _hear(connection: sqlite3.Connection, epoch: int, stream: Stream) -> None:
    connection.execute(
        "INSERT INTO streams VALUES (?, ?, ?, ?) ON CONFLICT (epoch) DO UPDATE SET"
        " noted = MAX(noted, excluded.noted), heard = MAX(heard, excluded.heard)",
        (epoch, stream.replica, stream.noted, stream.heard),
    )
