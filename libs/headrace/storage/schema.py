"""The schema of a database, by Alembic. A version changes it so that the version before can go on with it: control is rolled out
one process after the other, and rolled back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.storage.database import Database, unavailable

# One row. `version`: of the schema. `minimum`: the oldest version of the code that can go on with it.
INFO = sa.Table(
    "schema_info",
    sa.MetaData(),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("minimum", sa.Integer, nullable=False),
)

# Its `op` and `context` are one for the whole process.
_ALEMBIC = threading.Lock()
_ENTRY = Path(__file__).with_name("migrations")
# Of columns. Text is sorted by bytes, as SQLite sorts, whatever the language of the server.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


@dataclass(frozen=True, slots=True)
class Schema:
    """`migrations`: the folder with `versions`; each ends with a row of `schema_info`. `version`: of the newest. `first` writes
    what an empty database begins with."""

    migrations: Path
    version: int
    first: Callable[[sa.Connection], object] = lambda _: None


def prepare(database: Database, schema: Schema, *, initialise: bool) -> None:
    """Brings the schema up to this version. `initialise`: also in a database that has none.

    Raises RecordsUnavailableError (NOT_INITIALISED, NEWER, …).
    """
    try:
        _prepare(database, schema, initialise=initialise)
    except RecordsUnavailableError:
        # Two processes began at the same time, and the other one was first: then there is nothing to do now.
        _prepare(database, schema, initialise=initialise)


def _prepare(database: Database, schema: Schema, *, initialise: bool) -> None:
    version, minimum = database.query(_found)
    if version == 0 and not initialise:
        raise unavailable(Unavailable.NOT_INITIALISED)
    if minimum > schema.version:
        raise unavailable(Unavailable.NEWER)
    if version < schema.version:
        database.write(lambda connection: _upgrade(connection, schema, empty=version == 0))


def _found(connection: sa.Connection) -> tuple[int, int]:
    """Version and minimum; 0: there is no schema."""
    if not sa.inspect(connection).has_table(INFO.name):
        return 0, 0
    row = connection.execute(sa.select(INFO.c.version, INFO.c.minimum)).one_or_none()
    return (row.version, row.minimum) if row else (0, 0)


def _upgrade(connection: sa.Connection, schema: Schema, *, empty: bool) -> None:
    if _found(connection)[0] >= schema.version:
        return  # it was run again
    config = Config()
    places = {"script_location": _ENTRY, "version_locations": schema.migrations / "versions"}
    for name, place in places.items():
        config.set_main_option(name, str(place).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")
    if empty:
        schema.first(connection)
