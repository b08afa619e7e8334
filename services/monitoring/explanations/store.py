"""The SQLite file of explanations. Several threads may use it: erasure of events comes from theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from services.monitoring.explanations.records import Coverage, Explanation
from services.monitoring.outcomes.database import Database

# `forgotten`: ids of events that were erased, so that an explanation that comes later is not stored. `counted`: names of the
# counts that are in `coverage`, so that those that come again are not counted twice.
SCHEMA = """
CREATE TABLE IF NOT EXISTS explanations (
    id BLOB PRIMARY KEY, stored REAL NOT NULL, tenant TEXT NOT NULL, pipeline TEXT NOT NULL, revision TEXT NOT NULL,
    arm TEXT NOT NULL, output TEXT NOT NULL, base REAL NOT NULL, value REAL NOT NULL, exact INTEGER NOT NULL,
    columns TEXT NOT NULL, contributions BLOB NOT NULL, errors BLOB NOT NULL, sources TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS explanations_by_time ON explanations (stored);
CREATE INDEX IF NOT EXISTS explanations_by_pipeline ON explanations (pipeline, stored);
CREATE TABLE IF NOT EXISTS forgotten (id BLOB PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS coverage (
    pipeline TEXT NOT NULL, day INTEGER NOT NULL, predictions INTEGER NOT NULL, explained INTEGER NOT NULL,
    PRIMARY KEY (pipeline, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (id BLOB PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
"""
_DAY_S = 86_400
# Share that goes when the file is too large.
_SURPLUS = 0.1
_IDS = 500


class ExplanationStore:
    """Methods block and raise StorageError; then nothing of the call was done. Times are seconds since 1970."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()

    def add(
        self, explanations: Sequence[Explanation], demanded: Mapping[str, int], counts_id: bytes, now: float
    ) -> tuple[dict[str, int], bool]:
        """Stores explanations, and counts predictions that must be explained, unless counts of this id are counted already
        (an empty id: each time). Returns how many explanations are new, by pipeline, and whether it counted."""
        new: dict[str, int] = {}
        day = int(now // _DAY_S)
        with self._lock, self._database.transaction() as connection:
            counts = not counts_id or bool(
                connection.execute("INSERT OR IGNORE INTO counted VALUES (?, ?)", (counts_id, now)).rowcount
            )
            if not counts:
                demanded = {}
            for one in explanations:
                added = connection.execute(
                    "INSERT OR IGNORE INTO explanations SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
                    " WHERE NOT EXISTS (SELECT 1 FROM forgotten WHERE id = ?)",
                    (*_values(one, now), one.prediction_id),
                )
                new[one.pipeline] = new.get(one.pipeline, 0) + added.rowcount
            for pipeline in {*new, *demanded}:
                connection.execute(
                    "INSERT INTO coverage VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " predictions = predictions + excluded.predictions, explained = explained + excluded.explained",
                    (pipeline, day, demanded.get(pipeline, 0), new.get(pipeline, 0)),
                )
        return new, counts

    def find(self, prediction_id: bytes) -> tuple[Explanation, float] | None:
        """The explanation of a prediction and when it was stored; None: there is none."""
        with self._lock, self._database.transaction(reads_only=True) as connection:
            row = connection.execute("SELECT * FROM explanations WHERE id = ?", (prediction_id,)).fetchone()
        return None if row is None else (_explanation(row), float(row[1]))

    def contributions(self, pipeline: str, output: str, column: str, since: float) -> dict[bytes, float]:
        """By prediction, what a column added to an output."""
        with self._lock, self._database.transaction(reads_only=True) as connection:
            rows = connection.execute(
                "SELECT id, columns, contributions FROM explanations WHERE pipeline = ? AND output = ? AND stored >= ?",
                (pipeline, output, since),
            ).fetchall()
        found: dict[bytes, float] = {}
        for identity, columns, packed in rows:
            names = json.loads(columns)
            if column in names:
                found[identity] = float(np.frombuffer(packed, "<f8")[names.index(column)])
        return found

    def coverage(self) -> list[Coverage]:
        """Of each pipeline, by name, over the days that are kept."""
        with self._lock, self._database.transaction(reads_only=True) as connection:
            rows = connection.execute(
                "SELECT pipeline, SUM(predictions), SUM(explained) FROM coverage GROUP BY pipeline ORDER BY pipeline"
            ).fetchall()
        return [Coverage(*row) for row in rows]

    def forget(self, prediction_ids: Sequence[bytes], now: float) -> int:
        """Removes explanations of events that are erased, and takes none of them any more; returns how many there were."""
        gone = 0
        with self._lock, self._database.transaction() as connection:
            for start in range(0, len(prediction_ids), _IDS):
                part = list(prediction_ids[start : start + _IDS])
                connection.executemany(
                    "INSERT OR IGNORE INTO forgotten VALUES (?, ?)", [(i, now) for i in part]
                )
                marks = ",".join("?" * len(part))
                gone += connection.execute(f"DELETE FROM explanations WHERE id IN ({marks})", part).rowcount  # noqa: S608 - marks alone
        return gone

    def sweep(self, oldest: float, max_bytes: int) -> int:
        """Removes what is older, and the oldest of a file that is too large; returns how many explanations went."""
        with self._lock, self._database.transaction() as connection:
            gone = connection.execute("DELETE FROM explanations WHERE stored < ?", (oldest,)).rowcount
            connection.execute("DELETE FROM forgotten WHERE time < ?", (oldest,))
            connection.execute("DELETE FROM counted WHERE time < ?", (oldest,))
            connection.execute("DELETE FROM coverage WHERE day < ?", (int(oldest // _DAY_S),))
        with self._lock:
            if self._database.size_bytes() > max_bytes:
                with self._database.transaction() as connection:
                    gone += connection.execute(
                        "DELETE FROM explanations WHERE id IN (SELECT id FROM explanations ORDER BY stored"
                        " LIMIT (SELECT MAX(1, CAST(COUNT(*) * ? AS INTEGER)) FROM explanations))",
                        (_SURPLUS,),
                    ).rowcount
            if gone:
                self._database.shrink()
        return gone

    def close(self) -> None:
        with self._lock:
            self._database.close()


def _values(one: Explanation, now: float) -> tuple[Any, ...]:
    return (
        one.prediction_id,
        now,
        one.tenant,
        one.pipeline,
        one.revision,
        one.arm,
        one.output,
        one.base,
        one.value,
        int(one.exact),
        json.dumps(one.columns),
        np.array(one.contributions, "<f8").tobytes(),
        np.array(one.errors, "<f8").tobytes(),
        json.dumps(one.sources),
    )


def _explanation(row: Sequence[Any]) -> Explanation:
    identity, _, *plain, exact, columns, contributions, errors, sources = row
    arrays = (tuple(np.frombuffer(packed, "<f8").tolist()) for packed in (contributions, errors))
    found = (identity, *plain, bool(exact), tuple(json.loads(columns)), *arrays, tuple(json.loads(sources)))
    return Explanation(*found)
