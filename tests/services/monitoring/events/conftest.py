"""A real object store, PostgreSQL, and stores on them."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.libs.catalog.conftest import one_database, postgres_address, postgres_server
from tests.object_server import ObjectServer
from tests.services.monitoring.monitoring_events import World

__all__ = ["one_database", "postgres_address", "postgres_server"]


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    made = ObjectServer(tmp_path_factory.mktemp("objects"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(made.credentials))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            made.start()
            yield made
        finally:
            made.kill()


@pytest.fixture(params=["folder", "bucket"])
def store_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes a store: on SQLite with a folder, on PostgreSQL with a bucket."""
    made: list[World] = []

    def make(**settings: Any) -> World:
        if request.param == "bucket":
            settings["files"] = request.getfixturevalue("object_server").url(uuid.uuid4().hex)
            settings["address"] = request.getfixturevalue("postgres_address")
        made.append(World(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def world(store_of: Callable[..., World]) -> World:
    return store_of()
