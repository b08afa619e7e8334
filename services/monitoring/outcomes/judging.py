"""Joins predictions and outcomes. A prediction is judged once, by the first of its outcomes that says whether it was wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from services.monitoring.accuracy.delays import bucket
from services.monitoring.database.columns import add_sums
from services.monitoring.outcomes.records import WRONG
from services.monitoring.outcomes.tables import (
    CONTRADICTIONS,
    JUDGEMENTS,
    LABEL_DELAYS,
    MAKERS,
    OUTCOMES,
    PREDICTIONS,
    WINDOWS,
)

WINDOW = ("made_by", "start")
_P, _O, _M = PREDICTIONS.c, OUTCOMES.c, MAKERS.c


def same_row(of: sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row of the table is of the prediction."""
    return sa.and_(of.c.tenant == _P.tenant, of.c.request_id == _P.request_id, of.c.row == _P.row)


def contradict(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Counts these contradictions, or those of these predictions, in the windows."""
    found = sa.select(_P.made_by, _P.start, sa.func.count()).group_by(_P.made_by, _P.start)
    found = found.join_from(PREDICTIONS, CONTRADICTIONS, same_row(CONTRADICTIONS)).where(which)
    counts = {(made_by, start): [count] for made_by, start, count in connection.execute(found)}
    add_sums(connection, WINDOWS, WINDOW, ("contradictions",), counts)


def judge(connection: sa.Connection, which: sa.ColumnElement[bool], now: float) -> None:
    """Judges these predictions, or those of these outcomes. `now`: seconds since 1970."""
    found = sa.select(_P.id, _P.made_by, _P.start, _P.time, _P.labels, _P.key)
    found = found.add_columns(_O.name, _O.value, _O.received, _M.pipeline, _M.release, _M.arm)
    found = found.join_from(OUTCOMES, PREDICTIONS, same_row(OUTCOMES)).join(MAKERS, _M.id == _P.made_by)
    judged: dict[int, bool] = {}
    judgements: list[dict[str, Any]] = []
    makers: dict[int, list[float]] = {}
    windows: dict[tuple[Any, ...], list[float]] = {}
    late: dict[tuple[Any, ...], list[float]] = {}
    for row in connection.execute(found.where(_P.judged.is_(None), which).order_by(_O.id)).mappings():
        wrong = None if row["id"] in judged else _says_wrong(row["labels"], row["name"], row["value"])
        if wrong is None:
            continue
        judged[row["id"]] = wrong
        made_by, start = row["made_by"], row["start"]
        for sums in (makers.setdefault(made_by, [0, 0]), windows.setdefault((made_by, start), [0, 0])):
            sums[0] += 1
            sums[1] += wrong
        late.setdefault((made_by, start, bucket(row["received"] - row["time"])), [0])[0] += 1
        if row["key"] is not None:
            arm = {name: row[name] for name in ("pipeline", "release", "arm", "key")}
            judgements.append(arm | {"wrong": int(wrong), "received": now})
    if not judged:
        return
    update = sa.update(PREDICTIONS).where(_P.id == sa.bindparam("of")).values(judged=sa.bindparam("wrong"))
    connection.execute(update, [{"of": number, "wrong": int(wrong)} for number, wrong in judged.items()])
    for made_by, (rows, mistakes) in makers.items():
        more = {"labelled": _M.labelled + rows, "wrong": _M.wrong + mistakes}
        connection.execute(sa.update(MAKERS).where(_M.id == made_by).values(more))
    add_sums(connection, WINDOWS, WINDOW, ("labelled", "wrong"), windows)
    add_sums(connection, LABEL_DELAYS, (*WINDOW, "bucket"), ("count",), late)
    if judgements:
        connection.execute(sa.insert(JUDGEMENTS), judgements)


def _says_wrong(labels: str, name: str, value: float) -> bool | None:
    """Whether an outcome says that a prediction with these labels was wrong; None: it says nothing of it."""
    if name == WRONG:
        return bool(value)
    predicted: Mapping[str, float] = json.loads(labels)
    return predicted[name] != value if name in predicted else None
