"""The tables of records, as this version of the code sees them; migrations make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from headrace.catalog.errors import Unavailable
from headrace.storage.database import unavailable

MIGRATIONS = Path(__file__).with_name("migrations")
# Of the newest migration.
VERSION = 1

_TABLES = sa.MetaData()


class _Bytes(sa.LargeBinary):
    """SQLite gives back what was put in behind its back, also a text."""

    def result_processor(self, *_: object) -> Callable[[object], bytes | None]:
        """Raises RecordsUnavailableError: it is damaged."""

        def checked(value: object) -> bytes | None:
            if value is None or isinstance(value, bytes):
                return value
            raise unavailable(Unavailable.DAMAGED)

        return checked


# One row. Each transaction that writes locks it first, so all of them come one after the other.
HEAD = sa.Table(
    "head",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.BigInteger),
    sa.Column("number", sa.BigInteger),
    sa.Column("sha256", _Bytes),
    sa.Column("changed_at", sa.Double),  # seconds since 1970
)
AUDIT = sa.Table(
    "audit",
    _TABLES,
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("change_id", sa.Text),
    sa.Column("line", _Bytes),
    sa.Column("sha256", _Bytes),
)
# With which number each epoch began.
EPOCHS = sa.Table(
    "epochs",
    _TABLES,
    sa.Column("epoch", sa.BigInteger, primary_key=True),
    sa.Column("number", sa.BigInteger),
)
# `content` NULL: deleted.
RECORDS = sa.Table(
    "records",
    _TABLES,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("number", sa.BigInteger),
    sa.Column("content", _Bytes),
)
LEASES = sa.Table(
    "leases",
    _TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text),
    sa.Column("token", sa.Text),
    sa.Column("until", sa.Double),  # seconds since 1970, by the database's clock
)
