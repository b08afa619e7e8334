"""Stores outcomes and exposures, and joins them on the prediction: tenant, request id and row."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from headrace.ticks import Exposure
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.records import WRONG, Judged, Judgement, Outcome, Recorded

# SQLite's integers are signed.
_HALF, _WHOLE = 1 << 63, 1 << 64
# Share of the rows that goes when the file is too large.
_SURPLUS = 0.1
_TABLES = ("outcomes", "exposures", "judgements", "predictions", "contradictions")
_JOINED = """
SELECT e.id, e.pipeline, e.release, e.arm, e.key, e.labels, o.name, o.value
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
            old = [o for o in outcomes if not _stored(connection, tenant, o, now)]
            contradictory = sum(_contradicts(connection, tenant, o, now) for o in old)
            new = len(outcomes) - len(old)
            [[matched]] = connection.execute(
                "SELECT COUNT(*) FROM outcomes o JOIN exposures e USING (tenant, request_id, row) WHERE o.id > ?",
                (last,),
            )
            _judge(connection, "o", last, now)
        return Recorded(new, new - matched, len(old) - contradictory, contradictory)

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
            _judge(connection, "e", last, now)
        return int(new)

    def judged(self, pipeline: str, since: int = 0) -> dict[tuple[int, str], Judged]:
        """(release, arm) → predictions that were judged, of the releases from number `since` on. Never falls."""
        with self._database.transaction(reads_only=True) as connection:
            rows = connection.execute(
                "SELECT release, arm, rows, wrong FROM judged WHERE pipeline = ? AND release >= ?",
                (pipeline, since),
            ).fetchall()
        return {(release, arm): Judged(count, wrong) for release, arm, count, wrong in rows}

    def judgements(self, pipeline: str, since: int, after: int, most: int) -> list[Judgement]:
        """Judged predictions of rows with a sticky value, of the releases from number `since` on, in the order in which they were
        judged: those after the id `after`, at most `most`."""
        with self._database.transaction(reads_only=True) as connection:
            rows = connection.execute(
                "SELECT id, release, arm, key, wrong FROM judgements WHERE pipeline = ? AND id > ? AND release >= ?"
                " ORDER BY id LIMIT ?",
                (pipeline, after, since, most),
            ).fetchall()
        return [Judgement(i, release, arm, key, bool(wrong)) for i, release, arm, key, wrong in rows]

    def exposed(self, pipeline: str, since: int = 0) -> list[tuple[object, str]]:
        """(unit, arm) of each exposure that is kept; the unit is the sticky value's hash, else the request id."""
        with self._database.transaction(reads_only=True) as connection:
            return connection.execute(
                "SELECT COALESCE(key, request_id), arm FROM exposures WHERE pipeline = ? AND release >= ?",
                (pipeline, since),
            ).fetchall()

    def named(self, names: Sequence[str], since: float) -> dict[tuple[str, str, int], dict[str, float]]:
        """By prediction (tenant, request id, row), the outcomes of these names that were received since then."""
        found: dict[tuple[str, str, int], dict[str, float]] = {}
        marks = ",".join("?" * len(names))
        with self._database.transaction(reads_only=True) as connection:
            for tenant, request_id, row, name, value in connection.execute(
                f"SELECT tenant, request_id, row, name, value FROM outcomes WHERE received >= ? AND name IN ({marks})",  # noqa: S608 - marks alone
                (since, *names),
            ):
                found.setdefault((tenant, request_id, row), {})[name] = value
        return found

    def values(self, pipeline: str, name: str, since: int = 0) -> list[tuple[object, float]]:
        """(unit, value) of each outcome of that name that has an exposure; units as in `exposed`."""
        with self._database.transaction(reads_only=True) as connection:
            return connection.execute(
                "SELECT COALESCE(e.key, e.request_id), o.value FROM exposures e JOIN outcomes o"
                " USING (tenant, request_id, row) WHERE e.pipeline = ? AND e.release >= ? AND o.name = ?",
                (pipeline, since, name),
            ).fetchall()

    def of_request(self, tenant: str, request_id: str) -> list[Outcome]:
        """What is known of a request's rows."""
        with self._database.transaction(reads_only=True) as connection:
            rows = connection.execute(
                "SELECT row, name, value, label, time FROM outcomes WHERE tenant = ? AND request_id = ? ORDER BY row, name",
                (tenant, request_id),
            ).fetchall()
        return [
            Outcome(request_id, row, name, value, bool(label), at) for row, name, value, label, at in rows
        ]

    def sweep(self, oldest: float, max_bytes: int) -> int:
        """Removes what was received before `oldest`, and the oldest tenth while the file is larger than `max_bytes`; returns
        how many rows went."""
        with self._database.transaction() as connection:
            gone = sum(
                connection.execute(f"DELETE FROM {table} WHERE received < ?", (oldest,)).rowcount  # noqa: S608 - our own names
                for table in _TABLES
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
            for table in _TABLES:
                [[count]] = connection.execute(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - our own names
                surplus = int(count * _SURPLUS) + 1
                gone += connection.execute(
                    f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?)",  # noqa: S608 - our own names
                    (surplus,),
                ).rowcount
        return gone


def _stored(connection: sqlite3.Connection, tenant: str, o: Outcome, now: float) -> bool:
    """Stores an outcome if there is none of its prediction and name; returns whether it did."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO outcomes (tenant, request_id, row, name, value, label, time, received)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (tenant, o.request_id, o.row, o.name, o.value, o.label, o.time, now),
    )
    return cursor.rowcount > 0


def _contradicts(connection: sqlite3.Connection, tenant: str, o: Outcome, now: float) -> bool:
    """Whether the outcome that is there has another value; then this one is kept beside it."""
    place = (tenant, o.request_id, o.row, o.name)
    cursor = connection.execute(
        "INSERT INTO contradictions (tenant, request_id, row, name, value, received)"
        " SELECT tenant, request_id, row, name, ?, ? FROM outcomes"
        " WHERE tenant = ? AND request_id = ? AND row = ? AND name = ? AND value != ?",
        (o.value, now, *place, o.value),
    )
    return cursor.rowcount > 0


def _last(connection: sqlite3.Connection, table: str) -> int:
    [[last]] = connection.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}")  # noqa: S608 - our own names
    return int(last)


def _judge(connection: sqlite3.Connection, newest: str, last: int, now: float) -> None:
    """Judges the predictions whose outcome ("o") or exposure ("e") came after the id `last`."""
    verdicts: dict[int, _Verdict] = {}
    counts: dict[tuple[str, int, str], list[int]] = {}
    for verdict in _verdicts(connection, newest, last):
        if verdict.exposure not in verdicts:
            verdicts[verdict.exposure] = verdict
            sums = counts.setdefault((verdict.pipeline, verdict.release, verdict.arm), [0, 0])
            sums[0] += 1
            sums[1] += verdict.wrong
    connection.executemany(
        "UPDATE exposures SET judged = ? WHERE id = ?", [(v.wrong, e) for e, v in verdicts.items()]
    )
    connection.executemany(
        "INSERT INTO judged VALUES (?, ?, ?, ?, ?) ON CONFLICT (pipeline, release, arm)"
        " DO UPDATE SET rows = rows + excluded.rows, wrong = wrong + excluded.wrong",
        [(*arm, *sums) for arm, sums in counts.items()],
    )
    connection.executemany(
        "INSERT INTO judgements (pipeline, release, arm, key, wrong, received) VALUES (?, ?, ?, ?, ?, ?)",
        [(*verdict[1:], now) for verdict in verdicts.values() if verdict.key is not None],
    )


class _Verdict(NamedTuple):
    exposure: int
    pipeline: str
    release: int
    arm: str
    key: int | None
    wrong: bool


def _verdicts(connection: sqlite3.Connection, newest: str, last: int) -> Iterator[_Verdict]:
    joined = connection.execute(_JOINED.format(newest=newest), (last,)).fetchall()
    for exposure, pipeline, release, arm, key, labels, name, value in joined:
        predicted: Mapping[str, float] = json.loads(labels)
        if name == WRONG:
            yield _Verdict(exposure, pipeline, release, arm, key, bool(value))
        elif name in predicted:
            yield _Verdict(exposure, pipeline, release, arm, key, predicted[name] != value)


def _signed(key: int | None) -> int | None:
    return key if key is None or key < _HALF else key - _WHOLE
