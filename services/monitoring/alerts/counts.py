"""What objectives count, over days: sums by minute, later by longer buckets, from the counters of the doors.

What was read last is in the database too: a restart goes on where the last process ended, and several processes count nothing
twice. It is called by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from headrace.slo import WINDOWS_S, Count
from services.monitoring.outcomes.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS objective_counts (
    pipeline TEXT NOT NULL, objective TEXT NOT NULL, start INTEGER NOT NULL, requests REAL NOT NULL, bad REAL NOT NULL,
    PRIMARY KEY (pipeline, objective, start)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objective_readings (
    process TEXT NOT NULL, pipeline TEXT NOT NULL, objective TEXT NOT NULL, requests REAL NOT NULL, bad REAL NOT NULL,
    time REAL NOT NULL, PRIMARY KEY (process, pipeline, objective)) WITHOUT ROWID;
"""
Name: TypeAlias = tuple[str, str]
"""Pipeline and objective."""

_MINUTE, _DAY = 60, 86_400
# Rows of this age are summed to buckets of so many seconds.
_BUCKETS = ((21_600, 600), (3 * _DAY, 3600))
_KEPT_S = 90 * _DAY
_ADD = """INSERT INTO objective_counts VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, bad = bad + excluded.bad"""
_SUM = """INSERT INTO objective_counts
    SELECT pipeline, objective, start - start % :width, SUM(requests), SUM(bad) FROM objective_counts
    WHERE start < :age AND start % :width GROUP BY 1, 2, 3
    ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, bad = bad + excluded.bad"""
_WINDOW = "SUM(requests) FILTER (WHERE start > ?), SUM(bad) FILTER (WHERE start > ?)"


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of one objective in one door. `process`: a name that no other process has, also not after a restart."""

    process: str
    name: Name
    requests: float
    bad: float


class ObjectiveHistory:
    """`add` what was read, then ask for `windows`. Each raises StorageError, and nothing was changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, now: float, readings: Sequence[Reading]) -> None:
        """Adds by how much counters grew since the last time; at the first time of all, it is a beginning only. What grew is
        counted in the middle of the time since then: what a pause hid is not news."""
        with self._database.transaction() as db:
            rows = db.execute("SELECT process, pipeline, objective, requests, bad FROM objective_readings")
            last = {(process, (p, o)): (requests, bad) for process, p, o, requests, bad in rows}
            [[before]] = db.execute("SELECT MAX(time) FROM objective_readings")
            middle = now if before is None else (min(before, now) + now) / 2
            start = int(middle) // _MINUTE * _MINUTE
            for r in readings if last else ():
                requests, bad = last.get((r.process, r.name), (0.0, 0.0))
                db.execute(_ADD, (*r.name, start, r.requests - requests, r.bad - bad))
            db.executemany(
                "INSERT OR REPLACE INTO objective_readings VALUES (?, ?, ?, ?, ?, ?)",
                [(r.process, *r.name, r.requests, r.bad, now) for r in readings],
            )
            db.execute("DELETE FROM objective_readings WHERE time < ?", (now - _DAY,))
            db.execute("DELETE FROM objective_counts WHERE start < ?", (now - _KEPT_S,))
            for age, width in _BUCKETS:
                bounds = {"age": (int(now) - age) // width * width, "width": width}
                db.execute(_SUM, bounds)
                db.execute("DELETE FROM objective_counts WHERE start < :age AND start % :width", bounds)

    def windows(self, now: float, periods: Mapping[Name, float]) -> dict[Name, dict[float, Count]]:
        """Of each objective the counts of WINDOWS_S and of its own period, by their seconds."""
        found: dict[Name, dict[float, Count]] = {}
        with self._database.transaction(reads_only=True) as db:
            for name, period_s in periods.items():
                windows = (*WINDOWS_S, period_s)
                # A bucket of the window is one of which more than half lies in it.
                starts = [start for w in windows for start in [now - w - _MINUTE / 2] * 2]
                columns = ", ".join([_WINDOW] * len(windows))
                # The sums' names are our own.
                query = f"SELECT {columns} FROM objective_counts WHERE pipeline = ? AND objective = ?"  # noqa: S608
                [sums] = db.execute(query, (*starts, *name))
                pairs = zip(sums[::2], sums[1::2], strict=True)
                found[name] = {
                    w: Count(requests or 0.0, bad or 0.0)
                    for w, (requests, bad) in zip(windows, pairs, strict=True)
                }
        return found
