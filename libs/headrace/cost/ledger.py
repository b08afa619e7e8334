"""The ledger: what was charged, by hour, in SQLite. Whoever keeps the file open hands in the connection.

Each reading of the processes' counters is kept in it too, so that a restart, or a second process that collects, counts nothing
twice and loses no more than what happened since the last reading.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from headrace.cost.split import Bill, Charge
from headrace.cost.usage import Key, Work

HOUR = 3600
SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    hour INTEGER NOT NULL, tenant TEXT NOT NULL, pipeline TEXT NOT NULL, version TEXT NOT NULL, traffic TEXT NOT NULL,
    service TEXT NOT NULL, resource TEXT NOT NULL, currency TEXT NOT NULL, quantity REAL NOT NULL, amount REAL NOT NULL,
    PRIMARY KEY (hour, tenant, pipeline, version, traffic, service, resource, currency)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    hour INTEGER NOT NULL, tenant TEXT NOT NULL, pipeline TEXT NOT NULL, version TEXT NOT NULL, traffic TEXT NOT NULL,
    rows INTEGER NOT NULL, requests INTEGER NOT NULL,
    PRIMARY KEY (hour, tenant, pipeline, version, traffic)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bills (
    hour INTEGER NOT NULL, resource TEXT NOT NULL, currency TEXT NOT NULL, seconds REAL NOT NULL, quantity REAL NOT NULL,
    amount REAL NOT NULL, PRIMARY KEY (hour, resource, currency)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readings (name TEXT PRIMARY KEY, value REAL NOT NULL, time REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memory (service TEXT PRIMARY KEY, process_gb REAL NOT NULL, time REAL NOT NULL) WITHOUT ROWID;
"""
_ADD_CHARGE = """INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    quantity = quantity + excluded.quantity, amount = amount + excluded.amount"""
_ADD_COUNT = """INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    rows = rows + excluded.rows, requests = requests + excluded.requests"""
_ADD_BILL = """INSERT INTO bills VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    seconds = seconds + excluded.seconds, quantity = quantity + excluded.quantity, amount = amount + excluded.amount"""


class LedgerError(Exception):
    """The ledger can't be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the ledger says of a time. `since`, `until`: seconds since 1970, whole hours; `seconds`: how much of it was watched.
    `lines`: the charges by key, place and resource; `bills`: resource → reserved quantity and its price. `memory_gb`: what a
    process of a service held last."""

    currency: str
    since: float
    until: float
    seconds: float
    lines: tuple[Charge, ...]
    bills: Mapping[str, tuple[float, float]]
    counts: Mapping[Key, tuple[int, int]]
    memory_gb: Mapping[str, float]

    @property
    def bill(self) -> float:
        return sum(amount for _, amount in self.bills.values())

    @property
    def charged(self) -> float:
        return sum(line.amount for line in self.lines)


def add(
    connection: sqlite3.Connection,
    now: float,
    seconds: float,
    currency: str,
    charges: Iterable[Charge],
    bills: Iterable[Bill],
    work: Mapping[Key, Work],
) -> None:
    """Adds an interval that ended at `now` (seconds since 1970). Raises sqlite3.Error."""
    hour = int(now // HOUR * HOUR)
    connection.executemany(
        _ADD_CHARGE,
        [(hour, *_fields(c.key), c.service, c.resource, currency, c.quantity, c.amount) for c in charges],
    )
    connection.executemany(
        _ADD_BILL, [(hour, b.resource, currency, seconds, b.quantity, b.amount) for b in bills]
    )
    counted = [(hour, *_fields(k), w.rows, w.requests) for k, w in work.items() if w.rows or w.requests]
    connection.executemany(_ADD_COUNT, counted)


def remove_before(connection: sqlite3.Connection, time: float) -> None:
    """Removes hours that began before `time`. Raises sqlite3.Error."""
    for table in ("charges", "counts", "bills"):
        connection.execute(f"DELETE FROM {table} WHERE hour < ?", (time,))  # noqa: S608 - names of ours


def account(connection: sqlite3.Connection, since: float) -> list[Account]:
    """What was charged in hours that end after `since`, by currency. Raises sqlite3.Error."""
    if not connection.in_transaction:
        connection.execute("BEGIN")  # else lines could be of an earlier interval than the bill
    first = since - HOUR
    currencies = connection.execute("SELECT DISTINCT currency FROM bills WHERE hour > ? ORDER BY 1", (first,))
    return [_account(connection, first, currency) for (currency,) in currencies.fetchall()]


def read(path: Path, since: float) -> list[Account]:
    """As `account`, of a file that another process may be writing. Raises LedgerError."""
    if not path.exists():
        raise LedgerError(
            f"there is no ledger {path} yet: the monitoring service writes it while the system runs"
        )
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as connection:
            return account(connection, since)
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {path} can't be read: {error}") from error


def _account(connection: sqlite3.Connection, first: float, currency: str) -> Account:
    lines = connection.execute(
        "SELECT tenant, pipeline, version, traffic, service, resource, sum(quantity), sum(amount) FROM charges "
        "WHERE hour > ? AND currency = ? GROUP BY 1, 2, 3, 4, 5, 6",
        (first, currency),
    ).fetchall()
    bills = connection.execute(
        "SELECT resource, sum(quantity), sum(amount), sum(seconds), min(hour), max(hour) FROM bills "
        "WHERE hour > ? AND currency = ? GROUP BY 1",
        (first, currency),
    ).fetchall()
    counts = connection.execute(
        "SELECT tenant, pipeline, version, traffic, sum(rows), sum(requests) FROM counts WHERE hour > ? "
        "GROUP BY 1, 2, 3, 4",
        (first,),
    ).fetchall()
    memory = connection.execute("SELECT service, process_gb FROM memory").fetchall()
    return Account(
        currency,
        min((b[4] for b in bills), default=0.0),
        max((b[5] for b in bills), default=-HOUR) + HOUR,
        max((b[3] for b in bills), default=0.0),
        tuple(Charge(Key(*row[:4]), *row[4:]) for row in lines),
        {b[0]: (b[1], b[2]) for b in bills},
        {Key(*row[:4]): (row[4], row[5]) for row in counts},
        dict(memory),
    )


def _fields(key: Key) -> tuple[str, str, str, str]:
    return key.tenant, key.pipeline, key.version, key.traffic
