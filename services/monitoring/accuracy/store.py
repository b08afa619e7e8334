"""Stores predictions and joins them with outcomes, in the file of the outcomes. A prediction is judged once.

Exposures of experiments and rollouts are another table: they leave out the rows that a rule sent, so that arms can be compared;
these here are all that callers got.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from services.monitoring.accuracy.delays import bucket
from services.monitoring.accuracy.records import Maker, Prediction, VersionWindows, Window
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.records import WRONG, Judged

# Outcomes that are joined in one transaction: it holds up what else the store does.
PER_STEP = 20_000
_MOST_VERSIONS = 256
_JOINED = """
SELECT p.id, p.made_by, p.window, p.time, p.labels, o.name, o.value, o.received
FROM {tables} ON p.tenant = o.tenant AND p.request_id = o.request_id AND p.row = o.row
WHERE p.judged IS NULL AND {which} ORDER BY o.id
"""
_OF_OUTCOMES = _JOINED.format(tables="outcomes o CROSS JOIN predictions p", which="o.id > ? AND o.id <= ?")
_OF_PREDICTIONS = _JOINED.format(tables="predictions p CROSS JOIN outcomes o", which="p.id > ? AND o.id <= ?")
_CONTRADICTIONS = """
UPDATE accuracy_windows AS w SET contradictions = contradictions + n FROM (
    SELECT p.made_by, p.window, COUNT(*) AS n FROM predictions p JOIN contradictions c USING (tenant, request_id, row)
    WHERE {which} GROUP BY p.made_by, p.window) AS f
WHERE f.made_by = w.made_by AND f.window = w.start
"""
_SELECT = (
    "SELECT v.pipeline, v.version, {columns} FROM {table} t JOIN makers v ON v.id = t.made_by"
    " WHERE t.start >= ? AND (? = '' OR v.pipeline = ?) GROUP BY v.pipeline, v.version, {by} ORDER BY 1, 2, 3"
)
_WINDOWS = _SELECT.format(
    table="accuracy_windows",
    by="t.start",
    columns="t.start, SUM(t.rows), SUM(t.labelled), SUM(t.wrong), SUM(t.expected_rows), SUM(t.expected), SUM(t.contradictions)",
)
_DELAYS = _SELECT.format(table="label_delays", by="t.bucket", columns="t.bucket, SUM(t.count)")


class AccuracyStore:
    """Methods block and raise StorageError; then nothing of the call was stored. Times are seconds since 1970."""

    def __init__(self, database: Database, window_s: float) -> None:
        self._database = database
        self._window_s = window_s

    def add(self, made: Mapping[Maker, Sequence[Prediction]], now: float) -> int:
        """Stores predictions, and judges those whose outcome came before; returns how many were new."""
        with self._database.transaction() as connection:
            [[last]] = connection.execute("SELECT COALESCE(MAX(id), 0) FROM predictions")
            for maker, predictions in made.items():
                self._insert(connection, _id_of(connection, maker), predictions, now)
            connection.execute(
                "INSERT INTO accuracy_windows (made_by, start, rows, expected_rows, expected)"
                " SELECT made_by, window, COUNT(*), COUNT(expected), TOTAL(expected) FROM predictions WHERE id > ?"
                " GROUP BY made_by, window ON CONFLICT DO UPDATE SET rows = rows + excluded.rows,"
                " expected_rows = expected_rows + excluded.expected_rows, expected = expected + excluded.expected",
                (last,),
            )
            [[new]] = connection.execute("SELECT COUNT(*) FROM predictions WHERE id > ?", (last,))
            seen, _, _ = _step(connection, "outcomes")
            _judge(connection, connection.execute(_OF_PREDICTIONS, (last, seen)))
            known, _, _ = _step(connection, "contradictions")
            connection.execute(_CONTRADICTIONS.format(which="p.id > ? AND c.id <= ?"), (last, known))
        return int(new)

    def follow(self) -> bool:
        """Judges by outcomes that came since the last call, at most `PER_STEP`; returns whether there are more."""
        with self._database.transaction() as connection:
            seen, until, newest = _step(connection, "outcomes")
            if until != seen:
                _judge(connection, connection.execute(_OF_OUTCOMES, (seen, until)))
                _saw(connection, "outcomes", until)
            seen, last, _ = _step(connection, "contradictions")
            if last != seen:
                connection.execute(_CONTRADICTIONS.format(which="c.id > ? AND c.id <= ?"), (seen, last))
                _saw(connection, "contradictions", last)
        return until < newest

    def windows(self, since: float, pipeline: str = "") -> list[VersionWindows]:
        """Of each version with predictions since then; of all pipelines without a name."""
        found: dict[tuple[str, str], VersionWindows] = {}
        with self._database.transaction(reads_only=True) as connection:
            for name, version, *figures in connection.execute(_WINDOWS, (since, pipeline, pipeline)):
                of = found.setdefault((name, version), VersionWindows(name, version))
                of.windows = [*of.windows, Window(*figures)]
            for name, version, number, count in connection.execute(_DELAYS, (since, pipeline, pipeline)):
                if (name, version) in found:
                    found[name, version].delays[number] = count
        return list(found.values())

    def judged(self, pipeline: str, since: int = 0) -> dict[tuple[int, str], Judged]:
        """(release, arm) → predictions that were judged, of the releases from number `since` on. Never falls."""
        with self._database.transaction(reads_only=True) as connection:
            rows = connection.execute(
                "SELECT release, arm, SUM(labelled), SUM(wrong) FROM makers WHERE pipeline = ? AND release >= ?"
                " GROUP BY release, arm HAVING SUM(labelled) > 0",
                (pipeline, since),
            ).fetchall()
        return {(release, arm): Judged(count, wrong) for release, arm, count, wrong in rows}

    def by_version(self) -> dict[tuple[str, str, str], Judged]:
        """(pipeline, arm, version) → predictions that were judged, over all releases in which it ran there: of the newest 256,
        the newest last. Never falls."""
        with self._database.transaction(reads_only=True) as connection:
            rows = connection.execute(
                "SELECT pipeline, arm, version, SUM(labelled), SUM(wrong) FROM makers GROUP BY 1, 2, 3"
                " HAVING SUM(labelled) > 0 ORDER BY MAX(id)"
            ).fetchall()
        return {
            (pipeline, arm, version): Judged(count, wrong) for pipeline, arm, version, count, wrong in rows
        }

    def sweep(self, oldest: float, most_rows: int) -> None:
        """Removes windows that began before `oldest`, and the oldest predictions beyond `most_rows`."""
        with self._database.transaction() as connection:
            for table in ("accuracy_windows", "label_delays"):
                connection.execute(f"DELETE FROM {table} WHERE start < ?", (oldest,))  # noqa: S608 - our own names
            connection.execute(
                "DELETE FROM predictions WHERE id <= (SELECT MAX(id) FROM predictions) - ?", (most_rows,)
            )

    def _insert(
        self, connection: sqlite3.Connection, made_by: int, predictions: Iterable[Prediction], now: float
    ) -> None:
        length = self._window_s
        connection.executemany(
            "INSERT OR IGNORE INTO predictions (tenant, request_id, row, made_by, time, window, labels, expected, received)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    p.tenant,
                    p.request_id,
                    p.row,
                    made_by,
                    p.time,
                    p.time // length * length,
                    json.dumps(dict(p.labels)),
                    p.expected,
                    now,
                )
                for p in predictions
            ],
        )


def _id_of(connection: sqlite3.Connection, maker: Maker) -> int:
    connection.execute(
        "INSERT OR IGNORE INTO makers (pipeline, release, arm, version) VALUES (?, ?, ?, ?)", maker
    )
    [[found]] = connection.execute(
        "SELECT id FROM makers WHERE pipeline = ? AND release = ? AND arm = ? AND version = ?", maker
    )
    return int(found)


def _saw(connection: sqlite3.Connection, table: str, last: int) -> None:
    connection.execute("INSERT OR REPLACE INTO followed VALUES (?, ?)", (table, last))


def _step(connection: sqlite3.Connection, table: str) -> tuple[int, int, int]:
    """Ids: up to which rows of the table were followed, up to which they are now, and the newest."""
    [[newest]] = connection.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}")  # noqa: S608 - our own names
    row = connection.execute("SELECT id FROM followed WHERE what = ?", (table,)).fetchone()
    # If all rows were removed, ids began anew.
    seen = row[0] if row and row[0] <= newest else 0
    return seen, min(seen + PER_STEP, newest), newest


def _judge(
    connection: sqlite3.Connection, joined: Iterable[tuple[int, int, float, float, str, str, float, float]]
) -> None:
    """Judges predictions by the first of their outcomes that says whether they were wrong."""
    judged: dict[int, bool] = {}
    makers: dict[int, list[int]] = {}
    windows: dict[tuple[int, float], list[int]] = {}
    late: dict[tuple[int, float, int], int] = {}
    for prediction, made_by, window, time, labels, name, value, received in joined:
        wrong = None if prediction in judged else _wrong(labels, name, value)
        if wrong is None:
            continue
        judged[prediction] = wrong
        for sums in (makers.setdefault(made_by, [0, 0]), windows.setdefault((made_by, window), [0, 0])):
            sums[0] += 1
            sums[1] += wrong
        key = (made_by, window, bucket(received - time))
        late[key] = late.get(key, 0) + 1
    connection.executemany(
        "UPDATE predictions SET judged = ? WHERE id = ?", [(w, p) for p, w in judged.items()]
    )
    add = "labelled = labelled + ?, wrong = wrong + ?"
    connection.executemany(
        f"UPDATE makers SET {add} WHERE id = ?",  # noqa: S608 - our own names
        [(*sums, maker) for maker, sums in makers.items()],
    )
    connection.executemany(
        f"UPDATE accuracy_windows SET {add} WHERE made_by = ? AND start = ?",  # noqa: S608 - our own names
        [(*sums, *window) for window, sums in windows.items()],
    )
    connection.executemany(
        "INSERT INTO label_delays VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
        [(*key, count) for key, count in late.items()],
    )


def _wrong(labels: str, name: str, value: float) -> bool | None:
    """None: this outcome says nothing of whether the prediction was right."""
    if name == WRONG:
        return bool(value)
    predicted: Mapping[str, float] = json.loads(labels)
    return predicted[name] != value if name in predicted else None
