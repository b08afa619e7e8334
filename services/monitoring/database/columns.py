"""Tables as the code sees them, and what all stores do with them. What holds between tables is said by the migrations, which make
them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from services.monitoring.database.facts import Facts

# Rows that are removed in one transaction: it holds up what else is stored.
PER_STEP = 20_000
_TABLES = sa.MetaData()
# One row a concern, which a transaction locks whose ids others read as "up to here": so ids are seen in their order.
_TURNS = sa.Table("turns", _TABLES, sa.Column("name", sa.Text))


def table(name: str, *, numbers: str = "", texts: str = "", reals: str = "", blobs: str = "") -> sa.Table:
    """A table with these columns, their names separated by blanks."""
    kinds: dict[Any, str] = {sa.BigInteger: numbers, sa.Text: texts, sa.Double: reals, sa.LargeBinary: blobs}
    columns = [sa.Column(column, kind) for kind, names in kinds.items() for column in names.split()]
    return sa.Table(name, _TABLES, *columns)


def insert(dialect: str, into: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """One that may say ON CONFLICT, which both databases know and SQLAlchemy has for each apart."""
    return sqlite.insert(into) if dialect == "sqlite" else postgresql.insert(into)


def total(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Its sum, of its type: PostgreSQL's sum of whole numbers is a decimal one."""
    return sa.cast(sa.func.sum(column), column.type)


def take_turn(connection: sa.Connection, name: str) -> None:
    """Waits for other transactions of this concern, until this one ends."""
    connection.execute(sa.select(_TURNS).where(_TURNS.c.name == name).with_for_update())


def newest(connection: sa.Connection, of: sa.Table) -> int:
    """The highest id; 0 without rows."""
    return connection.scalar(sa.select(sa.func.max(of.c.id))) or 0


def add_sums(
    connection: sa.Connection,
    into: sa.Table,
    key: Sequence[str],
    names: Sequence[str],
    sums: Mapping[tuple[Any, ...], Sequence[float]],
) -> None:
    """Adds to the columns `names` of the rows with these keys; a row that is not there is made."""
    if not sums:
        return
    added = insert(connection.dialect.name, into)
    more = {name: into.c[name] + added.excluded[name] for name in names}
    connection.execute(
        added.on_conflict_do_update(index_elements=key, set_=more),
        [dict(zip((*key, *names), (*of, *by), strict=True)) for of, by in sums.items()],
    )


def remove_oldest(
    facts: Facts,
    of: sa.Table,
    by: str,
    age: str,
    oldest: float,
    max_rows: int,
    which: sa.ColumnElement[bool] | None = None,
) -> int:
    """Removes rows whose `age` (seconds since 1970) is before `oldest`, and the oldest beyond `max_rows`; returns how many.
    `by`: the column that rows are in order of; `which`: None: all rows. Raises StorageError."""
    which = sa.true() if which is None else which
    gone, step = 0, PER_STEP
    while step == PER_STEP:
        step = facts.write(
            lambda connection: _remove(connection, of, of.c[by], of.c[age] >= oldest, max_rows, which)
        )
        gone += step
    return gone


def _remove(
    connection: sa.Connection,
    of: sa.Table,
    by: sa.Column[Any],
    young: sa.ColumnElement[bool],
    max_rows: int,
    which: sa.ColumnElement[bool],
) -> int:
    first = connection.scalar(sa.select(by).where(young).order_by(by).limit(1))
    surplus = connection.scalar(sa.select(by).where(which).order_by(by.desc()).offset(max_rows).limit(1))
    old = [by < first if first is not None else sa.true()]
    if surplus is not None:
        old.append(by <= surplus)
    ids = sa.select(of.c.id).where(which, sa.or_(*old)).order_by(by).limit(PER_STEP)
    return connection.execute(sa.delete(of).where(of.c.id.in_(ids))).rowcount
