"""Stores of releases, each empty: in SQLite, in PostgreSQL and through a control."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control_service import ControlService
from tests.libs.releases import release_stores
from tests.libs.releases.small_pipeline import Home
from tests.postgres_server import PostgresServer, postgres
from tests.released import releases_in


@pytest.fixture(params=["sqlite", "postgres", "control"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[release_stores.Place]:
    """Each kind of store, empty."""
    if request.param == "sqlite":
        made: release_stores.Place = release_stores.OwnPlace(str(tmp_path / "control.sqlite"))
    elif request.param == "postgres":
        made = release_stores.in_postgres(request.getfixturevalue("shared_postgres"))
    else:
        made = release_stores.of_control(request.getfixturevalue("shared_control"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_control() -> Iterator[ControlService]:
    with ControlService() as service:
        yield service


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    with postgres("fsync=off") as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with releases_in(tmp_path) as store:
        yield Home(store, tmp_path)
