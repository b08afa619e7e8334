"""Stores outcomes and exposures, and joins them on the prediction: tenant, request id and row."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from headrace.ticks import Exposure
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.records import WRONG, Judged, Outcome, Recorded

# SQLite's integers are signed.
_HALF, _WHOLE = 1 << 63, 1 << 64
# Share of the rows that goes when the file is too large.
_SURPLUS = 0.1
_JOINED = """
SELECT e.id, e.pipeline, e.release, e.arm, e.labels, o.name, o.value, o.id
FROM outcomes o JOIN exposures e ON e.tenant = o.tenant AND e.request_id = o.request_id AND e.row = o.row
WHERE {newest}.id > ? AND e.judged IS NULL ORDER BY o.id
"""


class OutcomeStore:
    """Methods block and raise StorageError; then nothing of the call was stored. Times are seconds since 1970.

    A prediction is judged once: by the first outcome named `wrong` or like an output of which the exposure has the value.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, tenant: str, outcomes: Sequence[Outcome], now: float) -> Recorded:
        """Stores outcomes of a tenant's predictions; of the same prediction and name, the first one stays."""
        with self._database.transaction() as connection:
            last = _last(connection, "outcomes")
            connection.executemany(
                "INSERT OR IGNORE INTO outcomes (tenant, request_id, row, name, value, label, time, received)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(tenant, o.request_id, o.row, o.name, o.value, o.label, o.time, now) for o in outcomes],
            )
            [[new]] = connection.execute("SELECT COUNT(*) FROM outcomes WHERE id > ?", (last,))
            [[matched]] = connection.execute(
                "SELECT COUNT(*) FROM outcomes o JOIN exposures e USING (tenant, request_id, row) WHERE o.id > ?",
                (last,),
            )
            _judge(connection, "o", last)
        return Recorded(new, new - matched)

    def expose(self, exposures: Sequence[Exposure], now: float) -> int:
        """Stores which arm answered which rows; returns how many were new."""
        with self._database.transaction() as connection:
            last = _last(connection, "exposures")
            connection.executemany(
                "INSERT OR IGNORE INTO exposures (tenant, request_id, row, pipeline, release, arm, key, labels, received)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        e.tenant,
                        e.request_id,
                        e.row,
                        e.arm.pipeline,
                        e.arm.release,
                        e.arm.arm,
                        _signed(e.key),
                        json.dumps(dict(e.labels)),
                        now,
                    )
                    for e in exposures
                ],
            )
            [[new]] = connection.execute("SELECT COUNT(*) FROM exposures WHERE id > ?", (last,))
            _judge(connection, "e", last)
        return int(new)

    def judged(self, pipeline: str, since: int = 0) -> dict[tuple[int, str], Judged]:
        """(release, arm) → predictions that were judged, of the releases from number `since` on. Never falls."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT release, arm, rows, wrong FROM judged WHERE pipeline = ? AND release >= ?",
                (pipeline, since),
            ).fetchall()
        return {(release, arm): Judged(count, wrong) for release, arm, count, wrong in rows}

    def judged_keys(self, pipeline: str, since: int = 0) -> dict[str, Judged]:
        """Arm → distinct sticky values of judged predictions, and those with a wrong one; of the rows that are kept."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT arm, COUNT(*), SUM(wrong) FROM (SELECT arm, key, MAX(judged) AS wrong FROM exposures"
                " WHERE pipeline = ? AND release >= ? AND judged IS NOT NULL AND key IS NOT NULL GROUP BY arm, key)"
                " GROUP BY arm",
                (pipeline, since),
            ).fetchall()
        return {arm: Judged(count, wrong) for arm, count, wrong in rows}

    def exposed(self, pipeline: str, since: int = 0) -> list[tuple[object, str]]:
        """(unit, arm) of each exposure that is kept; the unit is the sticky value's hash, else the request id."""
        with self._database.transaction() as connection:
            return connection.execute(
                "SELECT COALESCE(key, request_id), arm FROM exposures WHERE pipeline = ? AND release >= ?",
                (pipeline, since),
            ).fetchall()

    def values(self, pipeline: str, name: str, since: int = 0) -> list[tuple[object, float]]:
        """(unit, value) of each outcome of that name that has an exposure; units as in `exposed`."""
        with self._database.transaction() as connection:
            return connection.execute(
                "SELECT COALESCE(e.key, e.request_id), o.value FROM exposures e JOIN outcomes o"
                " USING (tenant, request_id, row) WHERE e.pipeline = ? AND e.release >= ? AND o.name = ?",
                (pipeline, since, name),
            ).fetchall()

    def sweep(self, oldest: float, max_bytes: int) -> int:
        """Removes what was received before `oldest`, and the oldest tenth while the file is larger than `max_bytes`; returns
        how many rows went."""
        with self._database.transaction() as connection:
            gone = sum(
                connection.execute(f"DELETE FROM {table} WHERE received < ?", (oldest,)).rowcount  # noqa: S608 - our own names
                for table in ("outcomes", "exposures")
            )
        while self._database.size_bytes() > max_bytes and (removed := self._remove_tenth()):
            gone += removed
        if gone:
            self._database.shrink()
        return gone

    def size_bytes(self) -> int:
        """Size of the file."""
        return self._database.size_bytes()

    def close(self) -> None:
        self._database.close()

    def _remove_tenth(self) -> int:
        gone = 0
        with self._database.transaction() as connection:
            for table in ("outcomes", "exposures"):
                [[count]] = connection.execute(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - our own names
                surplus = int(count * _SURPLUS) + 1
                gone += connection.execute(
                    f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?)",  # noqa: S608 - our own names
                    (surplus,),
                ).rowcount
        return gone


def _last(connection: sqlite3.Connection, table: str) -> int:
    [[last]] = connection.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}")  # noqa: S608 - our own names
    return int(last)


def _judge(connection: sqlite3.Connection, newest: str, last: int) -> None:
    """Judges the predictions whose outcome ("o") or exposure ("e") came after the id `last`."""
    verdicts: dict[int, bool] = {}
    counts: dict[tuple[str, int, str], list[int]] = {}
    for exposure, pipeline, release, arm, wrong in _verdicts(connection, newest, last):
        if exposure not in verdicts:
            verdicts[exposure] = wrong
            sums = counts.setdefault((pipeline, release, arm), [0, 0])
            sums[0] += 1
            sums[1] += wrong
    connection.executemany(
        "UPDATE exposures SET judged = ? WHERE id = ?", [(w, e) for e, w in verdicts.items()]
    )
    connection.executemany(
        "INSERT INTO judged VALUES (?, ?, ?, ?, ?) ON CONFLICT (pipeline, release, arm)"
        " DO UPDATE SET rows = rows + excluded.rows, wrong = wrong + excluded.wrong",
        [(*arm, *sums) for arm, sums in counts.items()],
    )


def _verdicts(
    connection: sqlite3.Connection, newest: str, last: int
) -> Iterator[tuple[int, str, int, str, bool]]:
    joined = connection.execute(_JOINED.format(newest=newest), (last,)).fetchall()
    for exposure, pipeline, release, arm, labels, name, value, _ in joined:
        predicted: Mapping[str, float] = json.loads(labels)
        if name == WRONG:
            yield exposure, pipeline, release, arm, bool(value)
        elif name in predicted:
            yield exposure, pipeline, release, arm, predicted[name] != value


def _signed(key: int | None) -> int | None:
    return key if key is None or key < _HALF else key - _WHOLE
