"""The ledger: what was charged, by hour, and the last readings of the processes' counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from headrace.cost import Account, Bill, Charge, Key, Work, account_of
from services.monitoring.database.columns import add_sums, insert, table
from services.monitoring.database.facts import Facts

HOUR = 3600
KEY = ("tenant", "pipeline", "version", "traffic")
# What was charged, by hour.
CHARGES = table(
    "charges",
    numbers="hour",
    texts="tenant pipeline version traffic service resource currency",
    reals="quantity amount",
)
# What was predicted, by hour.
COUNTS = table("counts", numbers="hour rows requests", texts="tenant pipeline version traffic")
# What is reserved, by hour.
BILLS = table("bills", numbers="hour", texts="resource currency", reals="seconds quantity amount")
# The last values of the processes' counters, so that a restart, or a second process that collects, counts nothing twice.
READINGS = table("readings", texts="name", reals="value time")
# What a process of a service held last.
MEMORY = table("memory", texts="service", reals="process_gb time")
_DAY_S = 86_400.0


def add(
    connection: sa.Connection,
    now: float,
    seconds: float,
    currency: str,
    charges: Iterable[Charge],
    bills: Iterable[Bill],
    work: Mapping[Key, Work],
) -> None:
    """Adds an interval that ended at `now` (seconds since 1970)."""
    hour = int(now // HOUR * HOUR)
    place = ("service", "resource", "currency")
    lines = {
        (hour, *_fields(c.key), c.service, c.resource, currency): (c.quantity, c.amount) for c in charges
    }
    add_sums(connection, CHARGES, ("hour", *KEY, *place), ("quantity", "amount"), lines)
    reserved = {(hour, b.resource, currency): (seconds, b.quantity, b.amount) for b in bills}
    add_sums(connection, BILLS, ("hour", *place[1:]), ("seconds", "quantity", "amount"), reserved)
    counted = {(hour, *_fields(k)): (w.rows, w.requests) for k, w in work.items() if w.rows or w.requests}
    add_sums(connection, COUNTS, ("hour", *KEY), ("rows", "requests"), counted)


def remove_before(connection: sa.Connection, time: float) -> None:
    """Removes hours that began before `time`."""
    for of in (CHARGES, COUNTS, BILLS):
        connection.execute(sa.delete(of).where(of.c.hour < time))


def last_readings(connection: sa.Connection) -> dict[str, float]:
    """By name, the values that were read last."""
    return _pairs(connection, READINGS.c.name, READINGS.c.value)


def keep_readings(
    connection: sa.Connection, values: Mapping[str, float], memory_gb: Mapping[str, float], now: float
) -> None:
    """Replaces values, and what processes of services hold; those of a day ago go."""
    _replace(connection, READINGS, [{"name": n, "value": v, "time": now} for n, v in values.items()])
    connection.execute(sa.delete(READINGS).where(READINGS.c.time < now - _DAY_S))
    held = [{"service": s, "process_gb": gb, "time": now} for s, gb in memory_gb.items()]
    _replace(connection, MEMORY, held)


def accounts(connection: sa.Connection, since: float) -> list[Account]:
    """What was charged in hours that end after `since`, by currency."""
    first, c = since - HOUR, BILLS.c
    currencies = sa.select(c.currency).where(c.hour > first).distinct().order_by(c.currency)
    return [_account(connection, first, currency) for currency in connection.scalars(currencies).all()]


async def read_accounts(facts: Facts, since: float) -> list[Account]:
    """The same, on a thread. Raises StorageError."""
    return await facts.run(facts.query, lambda connection: accounts(connection, since))


def _account(connection: sa.Connection, first: float, currency: str) -> Account:
    lines = _sums(connection, CHARGES, (*KEY, "service", "resource"), ("quantity", "amount"), first, currency)
    bills = _sums(connection, BILLS, ("resource",), ("quantity", "amount", "seconds"), first, currency)
    counts = _sums(connection, COUNTS, KEY, ("rows", "requests"), first)
    hours = sa.select(sa.func.min(BILLS.c.hour), sa.func.max(BILLS.c.hour))
    begin, end = connection.execute(hours.where(BILLS.c.hour > first, BILLS.c.currency == currency)).one()
    return account_of(
        currency,
        (begin, end + HOUR),
        max(seconds for *_, seconds in bills),
        (Charge(Key(*row[:4]), *row[4:]) for row in lines),
        (Bill(*row[:3]) for row in bills),
        {Key(*row[:4]): (int(row[4]), int(row[5])) for row in counts},
        _pairs(connection, MEMORY.c.service, MEMORY.c.process_gb),
    )


def _pairs(connection: sa.Connection, *columns: sa.Column[Any]) -> dict[str, float]:
    found: list[Any] = list(connection.execute(sa.select(*columns)))
    return dict(found)


def _sums(
    connection: sa.Connection,
    of: sa.Table,
    by: Iterable[str],
    names: Iterable[str],
    first: float,
    currency: str | None = None,
) -> list[Any]:
    columns = [of.c[name] for name in by]
    found = sa.select(*columns, *(sa.func.sum(of.c[name]) for name in names)).group_by(*columns)
    found = found.where(of.c.hour > first)
    if currency is not None:
        found = found.where(of.c.currency == currency)
    return list(connection.execute(found).all())


def _replace(connection: sa.Connection, of: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        new = insert(connection.dialect.name, of)
        key, *others = rows[0]
        new = new.on_conflict_do_update(index_elements=[key], set_={n: new.excluded[n] for n in others})
        connection.execute(new, rows)


def _fields(key: Key) -> tuple[str, str, str, str]:
    return key.tenant, key.pipeline, key.version, key.traffic
