"""Schemas: made, upgraded, and newer than the code."""

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from headrace.catalog import changes, tables
from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.storage.database import Database
from headrace.storage.schema import Schema, prepare
from tests.libs.catalog.records_contract import change, contents, verified, write

# The next version: a table, a column that may be empty, one that has a default.
NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table("prices", sa.Column("name", sa.Text, primary_key=True))
    op.add_column("records", sa.Column("note", sa.Text))
    op.add_column("leases", sa.Column("taken", sa.Integer, nullable=False, server_default="0"))
    {more}
    op.execute("UPDATE schema_info SET version = 2, minimum = {minimum}")
"""


def schema(folder: Path, *, minimum: int = 1, more: str = "") -> Schema:
    """Of the next version of the code."""
    migrations = folder / f"migrations{minimum}"
    shutil.copytree(tables.MIGRATIONS, migrations)
    (migrations / "versions/r0002_next.py").write_text(NEXT.format(minimum=minimum, more=more))
    return Schema(migrations, 2, changes.first)


@pytest.fixture
def written(address: str) -> str:
    """A database of this version with a record in it."""
    records = CatalogRecords.open(address, initialise=True)
    records.change(change(write("flights", b"1")))
    records.close()
    return address


def upgrade(address: str, target: Schema, *, initialise: bool = False) -> None:
    database = Database.open(address, create=initialise)
    try:
        prepare(database, target, initialise=initialise)
    finally:
        database.close()


def test_the_migrations_make_what_the_code_knows(records: CatalogRecords) -> None:
    def columns(connection: sa.Connection) -> dict[str, set[str]]:
        found = sa.inspect(connection)
        return {name: {c["name"] for c in found.get_columns(name)} for name in found.get_table_names()}

    known = {table.name: {c.name for c in table.columns} for table in tables.HEAD.metadata.sorted_tables}
    made = records.database.query(columns)
    assert made == known | {"schema_info": {"version", "minimum"}, "alembic_version": {"version_num"}}
    assert [*(tables.MIGRATIONS / "versions").glob("r[0-9]*.py")][-1].name.startswith(f"r{tables.VERSION:04}")


def test_this_version_goes_on_with_the_schema_of_the_next(written: str, tmp_path: Path) -> None:
    upgrade(written, schema(tmp_path))
    records = CatalogRecords.open(written, initialise=True)
    records.change(change(write("flights", b"2", 1), write("new", b"3", 0)))
    assert records.take_lease("ladder", "a", 60)
    assert contents(records, "flights") == [(2, b"2"), (1, b"1")]
    assert verified(records) == []
    records.close()
    # And the next one after it.
    upgrade(written, schema(tmp_path / "again"))


def test_a_schema_that_this_version_can_t_follow_is_refused(written: str, tmp_path: Path) -> None:
    upgrade(written, schema(tmp_path, minimum=2))
    with pytest.raises(RecordsUnavailableError) as failed:
        CatalogRecords.open(written, initialise=True)
    assert failed.value.why is Unavailable.NEWER


def test_a_migration_that_fails_leaves_what_was(written: str, tmp_path: Path) -> None:
    broken = schema(tmp_path, more='op.execute("INSERT INTO nothing VALUES (1)")')
    with pytest.raises(RecordsUnavailableError):
        upgrade(written, broken)
    records = CatalogRecords.open(written, initialise=False)
    assert contents(records, "flights") == [(1, b"1")]
    found = records.database.query(lambda c: set(sa.inspect(c).get_table_names()))
    assert "prices" not in found
    records.close()
