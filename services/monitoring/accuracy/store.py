"""Stores predictions that may be judged, once, and tells of windows what outcomes say of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from services.monitoring.accuracy.records import Maker, Prediction, VersionWindows, Window
from services.monitoring.database.columns import add_sums, insert, newest, take_turn, total
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.store import WINDOW, contradict, judge
from services.monitoring.outcomes.tables import LABEL_DELAYS, MAKERS, PREDICTIONS, WINDOWS

_P, _M = PREDICTIONS.c, MAKERS.c


class AccuracyStore:
    """Methods block and raise StorageError; then nothing of the call was stored. Times are seconds since 1970."""

    def __init__(self, facts: Facts, window_s: float) -> None:
        self._facts = facts
        self._window_s = window_s

    def add(self, made: Mapping[Maker, Sequence[Prediction]], now: float) -> int:
        """Stores predictions, and judges those whose outcome came before; returns how many were new."""
        return self._facts.write(lambda connection: self._add(connection, made, now))

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

    def sweep(self, oldest: float) -> None:
        """Removes windows that began before `oldest`."""

        def remove(connection: sa.Connection) -> None:
            for table in (WINDOWS, LABEL_DELAYS):
                connection.execute(sa.delete(table).where(table.c.start < oldest))

        self._facts.write(remove)

    def _add(self, connection: sa.Connection, made: Mapping[Maker, Sequence[Prediction]], now: float) -> int:
        take_turn(connection, "outcomes")
        last = newest(connection, PREDICTIONS)
        rows = [
            self._row(p, number, now)
            for maker, predictions in made.items()
            for number in [_id_of(connection, maker)]
            for p in predictions
        ]
        added = (
            insert(connection.dialect.name, PREDICTIONS)
            .on_conflict_do_nothing()
            .returning(_P.made_by, _P.start, _P.expected)
        )
        new = connection.execute(added, rows).all() if rows else []
        sums: dict[tuple[Any, ...], list[float]] = {}
        for made_by, start, expected in new:
            of = sums.setdefault((made_by, start), [0, 0, 0.0])
            of[:] = of[0] + 1, of[1] + (expected is not None), of[2] + (expected or 0.0)
        add_sums(connection, WINDOWS, WINDOW, ("rows", "expected_rows", "expected"), sums)
        judge(connection, _P.id > last, now)
        contradict(connection, _P.id > last)
        return len(new)

    def _row(self, p: Prediction, made_by: int, now: float) -> dict[str, Any]:
        start = p.time // self._window_s * self._window_s
        labels = json.dumps(dict(p.labels))
        return p._asdict() | {"labels": labels, "made_by": made_by, "start": start, "received": now}


def _by_version(
    table: sa.Table,
    by: sa.ColumnElement[Any],
    sums: Sequence[sa.ColumnElement[Any]],
    since: float,
    pipeline: str,
) -> sa.Select[Any]:
    found = sa.select(_M.pipeline, _M.version, by, *map(total, sums))
    found = found.join_from(table, MAKERS, _M.id == table.c.made_by)
    found = found.where(table.c.start >= since, _M.version != "")
    found = found.group_by(_M.pipeline, _M.version, by).order_by(_M.pipeline, _M.version, by)
    return found.where(_M.pipeline == pipeline) if pipeline else found


def _id_of(connection: sa.Connection, maker: Maker) -> int:
    values = maker._asdict()
    connection.execute(insert(connection.dialect.name, MAKERS).on_conflict_do_nothing(), values)
    found = sa.select(_M.id).where(*(MAKERS.c[name] == value for name, value in values.items()))
    return int(connection.execute(found).scalar_one())
