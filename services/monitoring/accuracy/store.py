"""Stores predictions and joins them with outcomes. A prediction is judged once.

Exposures of experiments and rollouts are another table: they leave out the rows that a rule sent, so that arms can be compared;
these here are all that callers got.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from services.monitoring.accuracy.delays import bucket
from services.monitoring.accuracy.records import Maker, Prediction, VersionWindows, Window
from services.monitoring.accuracy.tables import FOLLOWED, LABEL_DELAYS, MAKERS, PREDICTIONS, WINDOWS
from services.monitoring.database.columns import add_sums, insert, newest, take_turn
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import Judged
from services.monitoring.outcomes.store import mark_judged, says_wrong
from services.monitoring.outcomes.tables import CONTRADICTIONS, OUTCOMES

# Outcomes that are joined in one transaction: it holds up what else is stored.
PER_STEP = 20_000
_MAX_VERSIONS = 256
_P, _O, _C, _M = PREDICTIONS.c, OUTCOMES.c, CONTRADICTIONS.c, MAKERS.c
_WINDOW = ("made_by", "start")
_MAKER = ("pipeline", "release", "arm", "version")


class AccuracyStore:
    """Methods block and raise StorageError; then nothing of the call was stored. Times are seconds since 1970."""

    def __init__(self, facts: Facts, window_s: float) -> None:
        self._facts = facts
        self._window_s = window_s

    def add(self, made: Mapping[Maker, Sequence[Prediction]], now: float) -> int:
        """Stores predictions, and judges those whose outcome came before; returns how many were new."""
        return self._facts.write(lambda connection: self._add(connection, made, now))

    def follow(self) -> bool:
        """Judges by outcomes that came since the last call, at most `PER_STEP`; returns whether there are more."""
        return self._facts.write(_follow)

    def windows(self, since: float, pipeline: str = "") -> list[VersionWindows]:
        """Of each version with predictions since then; of all pipelines without a name."""
        w, d = WINDOWS.c, LABEL_DELAYS.c
        sums = [w.rows, w.labelled, w.wrong, w.expected_rows, w.expected, w.contradictions]
        found: dict[tuple[str, str], VersionWindows] = {}

        def read(connection: sa.Connection) -> tuple[Sequence[Any], Sequence[Any]]:
            return (
                connection.execute(_by_version(WINDOWS, w.start, sums, since, pipeline)).all(),
                connection.execute(_by_version(LABEL_DELAYS, d.bucket, [d.count], since, pipeline)).all(),
            )

        windows, delays = self._facts.query(read)
        for name, version, *figures in windows:
            of = found.setdefault((name, version), VersionWindows(name, version))
            of.windows = [*of.windows, Window(*figures)]
        for name, version, number, count in delays:
            if (name, version) in found:
                found[name, version].delays[number] = count
        return list(found.values())

    def judged(self, pipeline: str, since: int = 0) -> dict[tuple[int, str], Judged]:
        """(release, arm) → predictions that were judged, of the releases from number `since` on. Never falls."""
        found = _judged(_M.release, _M.arm).where(_M.pipeline == pipeline, _M.release >= since)
        rows = self._facts.query(lambda connection: connection.execute(found).all())
        return {(release, arm): Judged(count, wrong) for release, arm, count, wrong in rows}

    def by_version(self) -> dict[tuple[str, str, str], Judged]:
        """(pipeline, arm, version) → predictions that were judged, over all releases in which it ran there: of the newest 256,
        the newest last. Never falls."""
        found = _judged(_M.pipeline, _M.arm, _M.version).order_by(sa.func.max(_M.id).desc())
        found = found.limit(_MAX_VERSIONS)
        rows = self._facts.query(lambda connection: connection.execute(found).all())
        return {
            (pipeline, arm, version): Judged(count, wrong)
            for pipeline, arm, version, count, wrong in reversed(rows)
        }

    def sweep(self, oldest: float) -> None:
        """Removes windows that began before `oldest`."""

        def remove(connection: sa.Connection) -> None:
            for table in (WINDOWS, LABEL_DELAYS):
                connection.execute(sa.delete(table).where(table.c.start < oldest))

        self._facts.write(remove)

    def _add(self, connection: sa.Connection, made: Mapping[Maker, Sequence[Prediction]], now: float) -> int:
        take_turn(connection, "accuracy")
        last = newest(connection, PREDICTIONS)
        rows = [
            self._row(p, number, now)
            for maker, predictions in made.items()
            for number in [_id_of(connection, maker)]
            for p in predictions
        ]
        added = (
            insert(connection, PREDICTIONS)
            .on_conflict_do_nothing()
            .returning(_P.made_by, _P.start, _P.expected)
        )
        new = connection.execute(added, rows).all() if rows else []
        sums: dict[tuple[Any, ...], list[float]] = {}
        for made_by, start, expected in new:
            of = sums.setdefault((made_by, start), [0, 0, 0.0])
            of[0] += 1
            of[1] += expected is not None
            of[2] += expected or 0.0
        add_sums(connection, WINDOWS, _WINDOW, ("rows", "expected_rows", "expected"), sums)
        # The sums keep SQLite from beginning with the outcomes, which are more.
        seen, _, _ = _step(connection, OUTCOMES)
        _judge(connection, _P.id > last, _O.id + 0 <= seen)
        known, _, _ = _step(connection, CONTRADICTIONS)
        _contradict(connection, _P.id > last, _C.id + 0 <= known)
        return len(new)

    def _row(self, p: Prediction, made_by: int, now: float) -> dict[str, Any]:
        start = p.time // self._window_s * self._window_s
        place = {"tenant": p.tenant, "request_id": p.request_id, "row": p.row, "made_by": made_by}
        labels = {"labels": json.dumps(dict(p.labels)), "expected": p.expected}
        return place | labels | {"time": p.time, "start": start, "received": now}


def _by_version(
    table: sa.Table,
    by: sa.ColumnElement[Any],
    sums: Sequence[sa.ColumnElement[Any]],
    since: float,
    pipeline: str,
) -> sa.Select[Any]:
    found = sa.select(_M.pipeline, _M.version, by, *(_sum(column) for column in sums))
    found = found.join_from(table, MAKERS, _M.id == table.c.made_by).where(table.c.start >= since)
    found = found.group_by(_M.pipeline, _M.version, by).order_by(_M.pipeline, _M.version, by)
    return found.where(_M.pipeline == pipeline) if pipeline else found


def _judged(*by: sa.ColumnElement[Any]) -> sa.Select[Any]:
    sums = _sum(_M.labelled), _sum(_M.wrong)
    return sa.select(*by, *sums).group_by(*by).having(sa.func.sum(_M.labelled) > 0)


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    # PostgreSQL's sum of whole numbers is a decimal one.
    return sa.cast(sa.func.sum(column), column.type)


def _id_of(connection: sa.Connection, maker: Maker) -> int:
    values = dict(zip(_MAKER, maker, strict=True))
    connection.execute(insert(connection, MAKERS).on_conflict_do_nothing(), values)
    found = sa.select(_M.id).where(*(MAKERS.c[name] == value for name, value in values.items()))
    return int(connection.execute(found).scalar_one())


def _follow(connection: sa.Connection) -> bool:
    take_turn(connection, "accuracy")
    seen, until, last = _step(connection, OUTCOMES)
    if until != seen:
        _judge(connection, _O.id > seen, _O.id <= until)
        _saw(connection, OUTCOMES, until)
    known, contradicted, _ = _step(connection, CONTRADICTIONS)
    if contradicted != known:
        _contradict(connection, _C.id > known, _C.id <= contradicted)
        _saw(connection, CONTRADICTIONS, contradicted)
    return until < last


def _step(connection: sa.Connection, table: sa.Table) -> tuple[int, int, int]:
    """Ids: up to which rows of the table were followed, up to which they are now, and the newest."""
    last = newest(connection, table)
    seen = connection.scalar(sa.select(FOLLOWED.c.id).where(FOLLOWED.c.what == table.name)) or 0
    return seen, max(min(seen + PER_STEP, last), seen), last


def _saw(connection: sa.Connection, table: sa.Table, last: int) -> None:
    said = insert(connection, FOLLOWED).values(what=table.name, id=last)
    connection.execute(said.on_conflict_do_update(index_elements=["what"], set_={"id": last}))


def _same_row(of: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(of.c.tenant == _P.tenant, of.c.request_id == _P.request_id, of.c.row == _P.row)


def _contradict(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> None:
    found = sa.select(_P.made_by, _P.start, sa.func.count()).group_by(_P.made_by, _P.start)
    found = found.join_from(PREDICTIONS, CONTRADICTIONS, _same_row(CONTRADICTIONS)).where(*which)
    counts = {(made_by, start): [count] for made_by, start, count in connection.execute(found)}
    add_sums(connection, WINDOWS, _WINDOW, ("contradictions",), counts)


def _judge(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> None:
    """Judges predictions by the first of their outcomes that says whether they were wrong."""
    found = sa.select(
        _P.id, _P.made_by, _P.start, _P.time, _P.labels, _O.name, _O.value, _O.received
    ).join_from(OUTCOMES, PREDICTIONS, _same_row(OUTCOMES))
    joined = connection.execute(found.where(_P.judged.is_(None), *which).order_by(_O.id))
    judged: dict[int, bool] = {}
    makers: dict[tuple[Any, ...], list[float]] = {}
    windows: dict[tuple[Any, ...], list[float]] = {}
    late: dict[tuple[Any, ...], list[float]] = {}
    for prediction, made_by, start, time, labels, name, value, received in joined:
        wrong = None if prediction in judged else says_wrong(labels, name, value)
        if wrong is None:
            continue
        judged[prediction] = wrong
        for sums in (makers.setdefault((made_by,), [0, 0]), windows.setdefault((made_by, start), [0, 0])):
            sums[0] += 1
            sums[1] += wrong
        late.setdefault((made_by, start, bucket(received - time)), [0])[0] += 1
    mark_judged(connection, PREDICTIONS, judged)
    for (made_by,), (rows, mistakes) in makers.items():
        more = {"labelled": _M.labelled + rows, "wrong": _M.wrong + mistakes}
        connection.execute(sa.update(MAKERS).where(_M.id == made_by).values(more))
    add_sums(connection, WINDOWS, _WINDOW, ("labelled", "wrong"), windows)
    add_sums(connection, LABEL_DELAYS, (*_WINDOW, "bucket"), ("count",), late)
