"""Stores outcomes, and joins them with predictions: on tenant, request id and row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from services.monitoring.accuracy.figures import bucket
from services.monitoring.accuracy.records import Chosen
from services.monitoring.database.columns import add_sums, newest, remove_oldest, take_turn, total
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import WRONG, Judged, Outcome, OutcomeError, Recorded
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
_O, _P, _M = OUTCOMES.c, PREDICTIONS.c, MAKERS.c
_MAX_VERSIONS = 256


class OutcomeStore:
    """Methods block and raise StorageError; then nothing of the call was stored. Times are seconds since 1970.

    A prediction is judged once: by the first outcome named `wrong` or like an output whose value is compared.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def record(self, tenant: str, outcomes: Sequence[Outcome], now: float) -> Recorded:
        """Stores outcomes of a tenant's predictions; of the same prediction and name, the first one stays.

        Raises OutcomeError."""
        return self._facts.write(lambda connection: _record(connection, tenant, outcomes, now))

    def judged(self, pipeline: str, since: int = 0) -> dict[tuple[int, str], Judged]:
        """(release, arm) → predictions that were judged, without those that a rule sent there, of the releases from number
        `since` on. Never falls."""
        found = _judged(_M.release, _M.arm)
        found = found.where(_M.pipeline == pipeline, _M.release >= since, _M.chosen != Chosen.BY_RULE)
        return {(release, arm): Judged(*counts) for release, arm, *counts in self._rows(found)}

    def judged_keys(self, pipeline: str, since: int) -> dict[tuple[int, str], Judged]:
        """As `judged`, of rows whose sticky value had not been wrong before in any arm. So a customer whom no model understands
        counts once, and not again when a growing weight moves it to the canary; as `errors` are counted."""
        c = JUDGEMENTS.c
        found = sa.select(c.release, c.arm, sa.func.count(), total(c.wrong))
        found = found.where(c.pipeline == pipeline, c.release >= since, c.wrong_before < since)
        found = found.group_by(c.release, c.arm)
        return {(release, arm): Judged(*counts) for release, arm, *counts in self._rows(found)}

    def by_version(self) -> dict[tuple[str, str, str], Judged]:
        """(pipeline, arm, version) → predictions that were judged, over all releases in which it ran there: of the newest 256,
        the newest last. Never falls."""
        found = _judged(_M.pipeline, _M.arm, _M.version).where(_M.version != "")
        rows = self._rows(found.order_by(sa.func.max(_M.id).desc()).limit(_MAX_VERSIONS))
        return {(pipeline, arm, version): Judged(*counts) for pipeline, arm, version, *counts in rows[::-1]}

    def drawn(self, pipeline: str, since: int = 0) -> list[tuple[object, str]]:
        """(unit, arm) of each row that is kept and that chance sent to its arm; the unit is the sticky value's hash, else the
        request id. Rows that failed are among them."""
        found = _drawn(sa.select(_P.key, _P.request_id, _M.arm), pipeline, since)
        return [(_unit(key, request_id), arm) for key, request_id, arm in self._rows(found)]

    def named(self, names: Sequence[str], since: float) -> dict[tuple[str, str, int], dict[str, float]]:
        """By prediction (tenant, request id, row), the outcomes of these names that were received since then."""
        found: dict[tuple[str, str, int], dict[str, float]] = {}
        wanted = sa.select(_O.tenant, _O.request_id, _O.row, _O.name, _O.value)
        for *prediction, name, value in self._rows(wanted.where(_O.received >= since, _O.name.in_(names))):
            found.setdefault((prediction[0], prediction[1], prediction[2]), {})[name] = value
        return found

    def values(self, pipeline: str, name: str, since: int = 0) -> list[tuple[object, float]]:
        """(unit, value) of each outcome of that name of a row of `drawn`."""
        found = _drawn(sa.select(_P.key, _P.request_id, _O.value), pipeline, since)
        found = found.join(OUTCOMES, _same_row(OUTCOMES)).where(_O.name == name)
        return [(_unit(key, request_id), value) for key, request_id, value in self._rows(found)]

    def of_request(self, tenant: str, request_id: str) -> list[Outcome]:
        """What is known of a request's rows."""
        found = sa.select(_O.request_id, _O.row, _O.name, _O.value, _O.label == 1, _O.time)
        found = found.where(_O.tenant == tenant, _O.request_id == request_id).order_by(_O.row, _O.name)
        return [Outcome(*of) for of in self._rows(found)]

    def sweep(self, oldest: float, max_rows: int) -> int:
        """Removes what was received before `oldest`, and the oldest of each table beyond `max_rows`; returns how many. Those
        predictions that outcomes compare, and others, do not push each other out."""
        compared = _P.made_by.in_(sa.select(_M.id).where(_M.chosen != Chosen.ALONE))
        whole = [(table, None) for table in (OUTCOMES, JUDGEMENTS, CONTRADICTIONS)]
        return sum(
            remove_oldest(self._facts, table, "id", "received", oldest, max_rows, which)
            for table, which in (*whole, (PREDICTIONS, compared), (PREDICTIONS, ~compared))
        )

    def _rows(self, found: sa.Select[Any]) -> Sequence[Any]:
        return self._facts.query(lambda connection: connection.execute(found).all())


def _record(connection: sa.Connection, tenant: str, outcomes: Sequence[Outcome], now: float) -> Recorded:
    # Until this transaction ends, nobody else stores outcomes or predictions.
    take_turn(connection, "outcomes")
    requests = sorted({o.request_id for o in outcomes})
    found = sa.select(_P.request_id, _P.row, _P.labels).where(
        _P.tenant == tenant, _P.request_id.in_(requests)
    )
    known = {(request, row): labels for request, row, labels in connection.execute(found)}
    _check(known, outcomes)
    there = sa.select(_O.request_id, _O.row, _O.name, _O.value)
    there = there.where(_O.tenant == tenant, _O.request_id.in_(requests))
    first = {(request, row, name): value for request, row, name, value in connection.execute(there)}
    new: list[dict[str, Any]] = []
    differ: list[dict[str, Any]] = []
    for o in outcomes:
        stored = {"tenant": tenant, "request_id": o.request_id, "row": o.row, "name": o.name}
        stored |= {"value": o.value, "received": now}
        place = o.request_id, o.row, o.name
        if place not in first:
            first[place] = o.value
            new.append(stored | {"label": int(o.label), "time": o.time})
        elif first[place] != o.value:
            differ.append(stored)
    last, before = newest(connection, OUTCOMES), newest(connection, CONTRADICTIONS)
    if differ:
        connection.execute(sa.insert(CONTRADICTIONS), differ)
        contradict(connection, CONTRADICTIONS.c.id > before)
    if new:
        connection.execute(sa.insert(OUTCOMES), new)
        judge(connection, _O.id > last, now)
    unknown = sum((o.request_id, o.row) not in known for o in outcomes)
    return Recorded(len(new), unknown, len(outcomes) - len(new) - len(differ), len(differ))


def _check(known: Mapping[tuple[str, int], str], outcomes: Sequence[Outcome]) -> None:
    """Raises OutcomeError: of an output that is a truth value or a whole number, it is neither. `known`: labels."""
    for number, o in enumerate(outcomes):
        if not o.value.is_integer() and o.name in json.loads(known.get((o.request_id, o.row), "{}")):
            said = f"outcomes[{number}].number: {o.name} is a truth value or a whole number"
            raise OutcomeError(f"{said}, and {o.value:g} is neither")


def _judged(*by: sa.ColumnElement[Any]) -> sa.Select[Any]:
    sums = total(_M.labelled), total(_M.wrong)
    return sa.select(*by, *sums).group_by(*by).having(sums[0] > 0)


def _drawn(what: sa.Select[Any], pipeline: str, since: int) -> sa.Select[Any]:
    found = what.join_from(PREDICTIONS, MAKERS, _M.id == _P.made_by)
    return found.where(_M.pipeline == pipeline, _M.release >= since, _M.chosen == Chosen.BY_CHANCE)


def _unit(key: int | None, request_id: str) -> object:
    return request_id if key is None else key


def _same_row(of: sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row of the table is of the prediction."""
    return sa.and_(of.c.tenant == _P.tenant, of.c.request_id == _P.request_id, of.c.row == _P.row)


def contradict(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Counts these contradictions, or those of these predictions, in the windows."""
    found = sa.select(_P.made_by, _P.start, sa.func.count()).group_by(_P.made_by, _P.start)
    found = found.join_from(PREDICTIONS, CONTRADICTIONS, _same_row(CONTRADICTIONS)).where(which)
    counts = {(made_by, start): [count] for made_by, start, count in connection.execute(found)}
    add_sums(connection, WINDOWS, WINDOW, ("contradictions",), counts)


def judge(connection: sa.Connection, which: sa.ColumnElement[bool], now: float) -> None:
    """Judges these predictions, or those of these outcomes. `now`: seconds since 1970."""
    found = sa.select(_P.id, _P.made_by, _P.start, _P.time, _P.labels, _P.key)
    found = found.add_columns(_O.name, _O.value, _O.received, _M.pipeline, _M.release, _M.arm)
    found = found.join_from(OUTCOMES, PREDICTIONS, _same_row(OUTCOMES)).join(MAKERS, _M.id == _P.made_by)
    judged: dict[int, bool] = {}
    judgements: list[dict[str, Any]] = []
    windows: dict[tuple[Any, ...], list[float]] = {}
    late: dict[tuple[Any, ...], list[float]] = {}
    # The sum keeps SQLite from beginning with all outcomes, which are in this order.
    for row in connection.execute(found.where(_P.judged.is_(None), which).order_by(_O.id + 0)).mappings():
        wrong = None if row["id"] in judged else _says_wrong(row["labels"], row["name"], row["value"])
        if wrong is None:
            continue
        judged[row["id"]] = wrong
        made_by, start = row["made_by"], row["start"]
        sums = windows.setdefault((made_by, start), [0, 0])
        sums[:] = sums[0] + 1, sums[1] + wrong
        late.setdefault((made_by, start, bucket(row["received"] - row["time"])), [0])[0] += 1
        if row["key"] is not None:
            arm = {name: row[name] for name in ("pipeline", "release", "arm", "key")}
            judgements.append(arm | {"wrong": int(wrong), "wrong_before": -1, "received": now})
    if not judged:
        return
    update = sa.update(PREDICTIONS).where(_P.id == sa.bindparam("of")).values(judged=sa.bindparam("wrong"))
    connection.execute(update, [{"of": number, "wrong": int(wrong)} for number, wrong in judged.items()])
    for (made_by, _), (rows, mistakes) in windows.items():
        more = {"labelled": _M.labelled + rows, "wrong": _M.wrong + mistakes}
        connection.execute(sa.update(MAKERS).where(_M.id == made_by).values(more))
    add_sums(connection, WINDOWS, WINDOW, ("labelled", "wrong"), windows)
    add_sums(connection, LABEL_DELAYS, (*WINDOW, "bucket"), ("count",), late)
    if judgements:
        last = newest(connection, JUDGEMENTS)
        connection.execute(sa.insert(JUDGEMENTS), judgements)
        new, old = JUDGEMENTS.c, JUDGEMENTS.alias().c
        before = sa.select(sa.func.max(old.release)).where(old.pipeline == new.pipeline, old.key == new.key)
        before = before.where(old.wrong == 1, old.id < new.id)
        noted = sa.func.coalesce(before.scalar_subquery(), -1)
        connection.execute(sa.update(JUDGEMENTS).where(new.id > last).values(wrong_before=noted))


def _says_wrong(labels: str, name: str, value: float) -> bool | None:
    """Whether an outcome says that a prediction with these labels was wrong; None: it says nothing of it."""
    if name == WRONG:
        return bool(value)
    predicted: Mapping[str, float] = json.loads(labels)
    return predicted[name] != value if name in predicted else None
