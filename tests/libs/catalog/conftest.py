"""Databases of both kinds, each test with its own."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace.catalog.records import CatalogRecords
from tests.postgres_server import PostgresServer, pooler, postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    # What a loss of power leaves behind is PostgreSQL's own matter.
    with postgres("fsync=off") as server:
        yield server


@pytest.fixture(scope="session")
def one_database(postgres_server: PostgresServer) -> str:
    return postgres_server.create("test")


@pytest.fixture
def postgres_address(postgres_server: PostgresServer, one_database: str) -> str:
    """Of an empty database: the one of the test before, emptied, as to make one takes longer than most tests."""
    with postgres_server.connect("test") as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE datname = 'test' AND pid <> pg_backend_pid()"
        )
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return one_database


@pytest.fixture(scope="session")
def pooler_folder(postgres_server: PostgresServer) -> Iterator[Path]:
    with pooler(postgres_server) as folder:
        yield folder


@pytest.fixture
def pooled_address(postgres_address: str, postgres_server: PostgresServer, pooler_folder: Path) -> str:
    """Of an empty database, through a pooler that lends a connection for one transaction."""
    return postgres_address.replace(str(postgres_server.folder), str(pooler_folder))


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database that is empty, or a file that is not there."""
    if request.param == "sqlite":
        return str(tmp_path / "control.db")
    found: str = request.getfixturevalue("postgres_address")
    return found


@pytest.fixture
def records(address: str) -> Iterator[CatalogRecords]:
    with closing(CatalogRecords.open(address, initialise=True)) as opened:
        yield opened
