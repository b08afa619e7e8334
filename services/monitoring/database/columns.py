"""Tables as the code sees them: names and types. What holds between them is said by the migrations, which make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

_TABLES = sa.MetaData()
# One row a concern. Who changes what others count by its ids locks its row first, so that ids are seen in their order.
_TURNS = sa.Table("turns", _TABLES, sa.Column("name", sa.Text))


def table(name: str, *, numbers: str = "", texts: str = "", reals: str = "", blobs: str = "") -> sa.Table:
    """A table with these columns, their names separated by blanks."""
    kinds: Sequence[tuple[str, Any]] = (
        (numbers, sa.BigInteger),
        (texts, sa.Text),
        (reals, sa.Double),
        (blobs, sa.LargeBinary),
    )
    return sa.Table(
        name, _TABLES, *(sa.Column(column, kind) for names, kind in kinds for column in names.split())
    )


def insert(connection: sa.Connection, into: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """One that may say ON CONFLICT, which both databases know and SQLAlchemy has for each apart."""
    return sqlite.insert(into) if connection.dialect.name == "sqlite" else postgresql.insert(into)


def take_turn(connection: sa.Connection, name: str) -> None:
    """Waits for other transactions of this concern, until this one ends."""
    connection.execute(sa.select(_TURNS).where(_TURNS.c.name == name).with_for_update())
