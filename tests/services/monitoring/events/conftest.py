"""A real object store, PostgreSQL, and stores on them."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from tests.libs.catalog.conftest import one_database, postgres_address, postgres_server
from tests.object_server import BUCKET, ObjectServer
from tests.services.monitoring.events.event_places import Place

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
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes a store: on SQLite with a folder, on PostgreSQL with a bucket."""
    made: list[Place] = []

    def make(**settings: Any) -> Place:
        if request.param == "folder":
            address, root = str(tmp_path / "facts.sqlite"), str(tmp_path / "files")
            made.append(Place(address, root, pyarrow.fs.LocalFileSystem(), root, **settings))
        else:
            server, prefix = request.getfixturevalue("object_server"), uuid.uuid4().hex
            address = request.getfixturevalue("postgres_address")
            made.append(Place(address, server.url(prefix), server.files(), f"{BUCKET}/{prefix}", **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def world(place: Callable[..., Place]) -> Place:
    return place()
