"""Explanations in the database. Several threads may use it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from services.monitoring.database.columns import insert, remove_oldest, table, take_turn
from services.monitoring.database.facts import Facts
from services.monitoring.explanations.records import Explanation

EXPLANATIONS = table(
    "explanations",
    numbers="exact",
    texts="tenant pipeline revision arm output columns sources",
    reals="stored base value",
    blobs="id contributions errors",
)
# Ids of events that were erased, so that an explanation that comes later is not stored.
FORGOTTEN = table("forgotten", reals="time", blobs="id")
# Names of reports whose works were counted, so that those that come again are not counted twice.
COUNTED = table("counted", reals="time", blobs="id")
_IDS = 500
_E = EXPLANATIONS.c
_PLAIN = ("tenant", "pipeline", "revision", "arm", "output", "base", "value")


class ExplanationStore:
    """Methods block and raise StorageError; then nothing of the call was done. Times are seconds since 1970."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def add(
        self, explanations: Sequence[Explanation], report_id: bytes, now: float
    ) -> tuple[dict[str, int], bool]:
        """Stores explanations. Returns how many are new, by pipeline, and whether the report of this id came for the first time
        (an empty id: always)."""
        return self._facts.write(lambda connection: _add(connection, explanations, report_id, now))

    def find(self, prediction_id: bytes) -> tuple[Explanation, float] | None:
        """The explanation of a prediction and when it was stored; None: there is none."""
        found = sa.select(EXPLANATIONS).where(_E.id == prediction_id)
        rows = self._facts.query(lambda connection: connection.execute(found).mappings().all())
        return (_explanation(rows[0]), rows[0]["stored"]) if rows else None

    def contributions(self, pipeline: str, output: str, column: str, since: float) -> dict[bytes, float]:
        """By prediction, what a column added to an output."""
        found = sa.select(_E.id, _E.columns, _E.contributions)
        found = found.where(_E.pipeline == pipeline, _E.output == output, _E.stored >= since)
        added: dict[bytes, float] = {}
        for identity, columns, packed in self._facts.query(
            lambda connection: connection.execute(found).all()
        ):
            names = json.loads(columns)
            if column in names:
                added[identity] = float(np.frombuffer(packed, "<f8")[names.index(column)])
        return added

    def ids(self, since: float, until: float) -> list[bytes]:
        """Of the explained predictions that were made in this time."""
        found = sa.select(_E.id).where(_made_in(since, until))
        return list(self._facts.query(lambda connection: connection.scalars(found).all()))

    def count(self, pipeline: str, revision: str, since: float, until: float) -> int:
        """Of the explained predictions of a revision that were made in this time."""
        found = sa.select(sa.func.count()).where(_E.pipeline == pipeline, _E.revision == revision)
        found = found.where(_made_in(since, until))
        return self._facts.query(lambda connection: connection.execute(found).scalar_one())

    def sweep(self, oldest: float, max_rows: int) -> int:
        """Removes what is older, and the oldest beyond `max_rows`; returns how many explanations went."""
        for of in (FORGOTTEN, COUNTED):
            remove_oldest(self._facts, of, "time", "time", oldest, max_rows)
        return remove_oldest(self._facts, EXPLANATIONS, "stored", "stored", oldest, max_rows)


def forget(connection: sa.Connection, prediction_ids: Sequence[bytes], now: float) -> None:
    """Removes explanations of events that are erased, and takes none of them any more."""
    take_turn(connection, "explanations")
    for start in range(0, len(prediction_ids), _IDS):
        part = list(prediction_ids[start : start + _IDS])
        forgotten = [{"id": identity, "time": now} for identity in part]
        connection.execute(insert(connection.dialect.name, FORGOTTEN).on_conflict_do_nothing(), forgotten)
        connection.execute(sa.delete(EXPLANATIONS).where(_E.id.in_(part)))


def _add(
    connection: sa.Connection, explanations: Sequence[Explanation], report_id: bytes, now: float
) -> tuple[dict[str, int], bool]:
    # What is being forgotten meanwhile must not come back.
    take_turn(connection, "explanations")
    named = insert(connection.dialect.name, COUNTED).on_conflict_do_nothing().returning(COUNTED.c.id)
    first = not report_id or bool(connection.execute(named, {"id": report_id, "time": now}).all())
    ids = sa.select(FORGOTTEN.c.id).where(FORGOTTEN.c.id.in_([one.prediction_id for one in explanations]))
    forgotten = set(connection.scalars(ids))
    rows = [_row(one, now) for one in explanations if one.prediction_id not in forgotten]
    added = insert(connection.dialect.name, EXPLANATIONS).on_conflict_do_nothing().returning(_E.pipeline)
    new = Counter({one.pipeline: 0 for one in explanations})
    new.update(connection.scalars(added, rows) if rows else ())
    return dict(new), first


def _made_in(since: float, until: float) -> sa.ColumnElement[bool]:
    """Ids begin with the time of the prediction in milliseconds."""
    first, last = (int(at * 1000).to_bytes(6, "big") for at in (since, until + 0.001))
    return sa.and_(_E.id >= first, _E.id < last)


def _row(one: Explanation, now: float) -> dict[str, Any]:
    return {
        "id": one.prediction_id,
        "stored": now,
        **{name: getattr(one, name) for name in _PLAIN},
        "exact": int(one.exact),
        "columns": json.dumps(one.columns),
        "contributions": np.array(one.contributions, "<f8").tobytes(),
        "errors": np.array(one.errors, "<f8").tobytes(),
        "sources": json.dumps(one.sources),
    }


def _explanation(row: Any) -> Explanation:
    return Explanation(
        row["id"],
        **{name: row[name] for name in _PLAIN},
        exact=bool(row["exact"]),
        columns=tuple(json.loads(row["columns"])),
        contributions=tuple(np.frombuffer(row["contributions"], "<f8").tolist()),
        errors=tuple(np.frombuffer(row["errors"], "<f8").tolist()),
        sources=tuple(json.loads(row["sources"])),
    )
