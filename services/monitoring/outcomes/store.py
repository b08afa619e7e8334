"""Stores outcomes and exposures, and joins them on the prediction: tenant, request id and row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from headrace.ticks import Exposure
from services.monitoring.accuracy.tables import PREDICTIONS
from services.monitoring.database.columns import add_sums, insert, newest, remove_oldest, take_turn
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import WRONG, Judged, Judgement, Outcome, OutcomeError, Recorded
from services.monitoring.outcomes.tables import CONTRADICTIONS, EXPOSURES, JUDGED, JUDGEMENTS, OUTCOMES

# Databases' integers are signed.
_HALF, _WHOLE = 1 << 63, 1 << 64
_E, _O = EXPOSURES.c, OUTCOMES.c


def _same_row(of: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(of.c.tenant == _O.tenant, of.c.request_id == _O.request_id, of.c.row == _O.row)


_JOINED = EXPOSURES.join(OUTCOMES, _same_row(EXPOSURES))
# (request id, row, name) of a tenant's outcome.
_Place = tuple[str, int, str]


class OutcomeStore:
    """Methods block and raise StorageError; then nothing of the call was stored. Times are seconds since 1970.

    A prediction is judged once: by the first outcome named `wrong` or like an output of which the exposure has the value.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def record(self, tenant: str, outcomes: Sequence[Outcome], now: float) -> Recorded:
        """Stores outcomes of a tenant's predictions; of the same prediction and name, the first one stays.

        Raises OutcomeError."""
        return self._facts.write(lambda connection: _record(connection, tenant, outcomes, now))

    def expose(self, exposures: Sequence[Exposure], now: float) -> int:
        """Stores which arm answered which rows; returns how many were new."""
        return self._facts.write(lambda connection: _expose(connection, exposures, now))

    def judged(self, pipeline: str, since: int = 0) -> dict[tuple[int, str], Judged]:
        """(release, arm) → predictions that were judged, of the releases from number `since` on. Never falls."""
        c = JUDGED.c
        found = sa.select(c.release, c.arm, c.rows, c.wrong).where(c.pipeline == pipeline, c.release >= since)
        return {(release, arm): Judged(count, wrong) for release, arm, count, wrong in self._rows(found)}

    def judgements(self, pipeline: str, since: int, after: int, most: int) -> list[Judgement]:
        """Judged predictions of rows with a sticky value, of the releases from number `since` on, in the order in which they were
        judged: those after the id `after`, at most `most`."""
        c = JUDGEMENTS.c
        found = sa.select(c.id, c.release, c.arm, c.key, c.wrong).order_by(c.id).limit(most)
        found = found.where(c.pipeline == pipeline, c.id > after, c.release >= since)
        return [
            Judgement(i, release, arm, key, bool(wrong)) for i, release, arm, key, wrong in self._rows(found)
        ]

    def exposed(self, pipeline: str, since: int = 0) -> list[tuple[object, str]]:
        """(unit, arm) of each exposure that is kept; the unit is the sticky value's hash, else the request id."""
        found = sa.select(_E.key, _E.request_id, _E.arm).where(_E.pipeline == pipeline, _E.release >= since)
        return [(_unit(key, request_id), arm) for key, request_id, arm in self._rows(found)]

    def named(self, names: Sequence[str], since: float) -> dict[tuple[str, str, int], dict[str, float]]:
        """By prediction (tenant, request id, row), the outcomes of these names that were received since then."""
        found: dict[tuple[str, str, int], dict[str, float]] = {}
        wanted = sa.select(_O.tenant, _O.request_id, _O.row, _O.name, _O.value)
        for *prediction, name, value in self._rows(wanted.where(_O.received >= since, _O.name.in_(names))):
            found.setdefault((prediction[0], prediction[1], prediction[2]), {})[name] = value
        return found

    def values(self, pipeline: str, name: str, since: int = 0) -> list[tuple[object, float]]:
        """(unit, value) of each outcome of that name that has an exposure; units as in `exposed`."""
        found = sa.select(_E.key, _E.request_id, _O.value).select_from(_JOINED)
        found = found.where(_E.pipeline == pipeline, _E.release >= since, _O.name == name)
        return [(_unit(key, request_id), value) for key, request_id, value in self._rows(found)]

    def of_request(self, tenant: str, request_id: str) -> list[Outcome]:
        """What is known of a request's rows."""
        found = sa.select(_O.row, _O.name, _O.value, _O.label, _O.time).order_by(_O.row, _O.name)
        return [
            Outcome(request_id, row, name, value, bool(label), at)
            for row, name, value, label, at in self._rows(
                found.where(_O.tenant == tenant, _O.request_id == request_id)
            )
        ]

    def sweep(self, oldest: float, max_rows: int) -> int:
        """Removes what was received before `oldest`, and the oldest of each table beyond `max_rows`; returns how many."""
        tables = (OUTCOMES, EXPOSURES, JUDGEMENTS, PREDICTIONS, CONTRADICTIONS)
        return sum(remove_oldest(self._facts, table, "id", "received", oldest, max_rows) for table in tables)

    def _rows(self, found: sa.Select[Any]) -> Sequence[Any]:
        return self._facts.query(lambda connection: connection.execute(found).all())


def _record(connection: sa.Connection, tenant: str, outcomes: Sequence[Outcome], now: float) -> Recorded:
    take_turn(connection, "outcomes")
    _check(connection, tenant, outcomes)
    last = newest(connection, OUTCOMES)
    first: dict[_Place, Outcome] = {}
    for o in outcomes:
        first.setdefault(_place(o), o)
    added = insert(connection, OUTCOMES).on_conflict_do_nothing().returning(_O.request_id, _O.row, _O.name)
    rows = [_row(tenant, o, now) | {"label": int(o.label), "time": o.time} for o in first.values()]
    new = {tuple(place) for place in connection.execute(added, rows)} if rows else set()
    values = _values(connection, tenant, sorted({o.request_id for o in outcomes}))
    old = [o for o in outcomes if first[_place(o)] is not o or _place(o) not in new]
    differ = [_row(tenant, o, now) for o in old if values[_place(o)] != o.value]
    if differ:
        connection.execute(sa.insert(CONTRADICTIONS), differ)
    known = sa.or_(*(sa.exists().where(_same_row(table)) for table in (EXPOSURES, PREDICTIONS)))
    matched = connection.scalar(sa.select(sa.func.count()).where(_O.id > last, known)) or 0
    _judge(connection, _O.id > last, now)
    return Recorded(len(new), len(new) - matched, len(old) - len(differ), len(differ))


def _check(connection: sa.Connection, tenant: str, outcomes: Sequence[Outcome]) -> None:
    """Raises OutcomeError: of an output that is a truth value or a whole number, it is neither."""
    odd = {_place(o): number for number, o in enumerate(outcomes) if not o.value.is_integer()}
    for c in (EXPOSURES.c, PREDICTIONS.c) if odd else ():
        found = sa.select(c.request_id, c.row, c.labels)
        found = found.where(c.tenant == tenant, c.request_id.in_({request for request, _, _ in odd}))
        for request, row, labels in connection.execute(found):
            for name in json.loads(labels):
                if (number := odd.get((request, row, name))) is not None:
                    said = f"outcomes[{number}].number: {name} is a truth value or a whole number"
                    raise OutcomeError(f"{said}, and {outcomes[number].value:g} is neither")


def _place(o: Outcome) -> _Place:
    return o.request_id, o.row, o.name


def _row(tenant: str, o: Outcome, now: float) -> dict[str, Any]:
    place = {"tenant": tenant, "request_id": o.request_id, "row": o.row, "name": o.name}
    return {**place, "value": o.value, "received": now}


def _values(connection: sa.Connection, tenant: str, request_ids: Sequence[str]) -> dict[_Place, float]:
    found = sa.select(_O.request_id, _O.row, _O.name, _O.value)
    found = found.where(_O.tenant == tenant, _O.request_id.in_(request_ids))
    return {(request, row, name): value for request, row, name, value in connection.execute(found)}


def _expose(connection: sa.Connection, exposures: Sequence[Exposure], now: float) -> int:
    take_turn(connection, "outcomes")
    last = newest(connection, EXPOSURES)
    rows = [
        {"tenant": e.tenant, "request_id": e.request_id, "row": e.row, "pipeline": e.arm.pipeline}
        | {"release": e.arm.release, "arm": e.arm.arm, "key": _signed(e.key)}
        | {"labels": json.dumps(dict(e.labels)), "received": now}
        for e in exposures
    ]
    new = connection.execute(
        insert(connection, EXPOSURES).on_conflict_do_nothing().returning(_E.id), rows
    ).all()
    _judge(connection, _E.id > last, now)
    return len(new)


def _judge(connection: sa.Connection, which: sa.ColumnElement[bool], now: float) -> None:
    """Judges the predictions of these outcomes or exposures."""
    verdicts: dict[int, _Verdict] = {}
    for verdict in _verdicts(connection, which):
        verdicts.setdefault(verdict.exposure, verdict)
    sums: dict[tuple[Any, ...], list[int]] = {}
    for verdict in verdicts.values():
        of = sums.setdefault((verdict.pipeline, verdict.release, verdict.arm), [0, 0])
        of[0] += 1
        of[1] += verdict.wrong
    mark_judged(connection, EXPOSURES, {exposure: v.wrong for exposure, v in verdicts.items()})
    add_sums(connection, JUDGED, ("pipeline", "release", "arm"), ("rows", "wrong"), sums)
    made = [
        {**verdict._asdict(), "wrong": int(verdict.wrong), "received": now}
        for verdict in verdicts.values()
        if verdict.key is not None
    ]
    if made:
        connection.execute(sa.insert(JUDGEMENTS), made)


class _Verdict(NamedTuple):
    exposure: int
    pipeline: str
    release: int
    arm: str
    key: int | None
    wrong: bool


def _verdicts(connection: sa.Connection, which: sa.ColumnElement[bool]) -> Iterator[_Verdict]:
    found = sa.select(_E.id, _E.pipeline, _E.release, _E.arm, _E.key, _E.labels, _O.name, _O.value)
    found = found.select_from(_JOINED).where(which, _E.judged.is_(None)).order_by(_O.id)
    for exposure, pipeline, release, arm, key, labels, name, value in connection.execute(found):
        wrong = says_wrong(labels, name, value)
        if wrong is not None:
            yield _Verdict(exposure, pipeline, release, arm, key, wrong)


def says_wrong(labels: str, name: str, value: float) -> bool | None:
    """Whether an outcome says that a prediction with these labels was wrong; None: it says nothing of it."""
    if name == WRONG:
        return bool(value)
    predicted: Mapping[str, float] = json.loads(labels)
    return predicted[name] != value if name in predicted else None


def mark_judged(connection: sa.Connection, table: sa.Table, judged: Mapping[int, bool]) -> None:
    """Writes by id whether predictions were wrong."""
    if judged:
        update = sa.update(table).where(table.c.id == sa.bindparam("of")).values(judged=sa.bindparam("wrong"))
        connection.execute(update, [{"of": number, "wrong": int(wrong)} for number, wrong in judged.items()])


def _unit(key: int | None, request_id: str) -> object:
    return request_id if key is None else key


def _signed(key: int | None) -> int | None:
    return key if key is None or key < _HALF else key - _WHOLE
