"""One Redis for all tests of this folder; each test has a database of its own in it, by the prefix of its keys."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control_service import ControlService
from tests.libs.releases import release_stores
from tests.libs.releases.small_pipeline import Home
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that a test may kill. It writes before it answers: by default a busy disk may delay that for two seconds."""
    with RedisServer(tmp_path, "--appendfsync", "always") as server:
        yield server


@pytest.fixture(params=["files", "redis", "records", "control"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[release_stores.Place]:
    """Each kind of store, empty."""
    if request.param == "files":
        made = release_stores.files(tmp_path / "releases")
    elif request.param == "records":
        made = release_stores.OwnPlace(tmp_path / "control.sqlite")
    elif request.param == "control":
        made = release_stores.of_control(request.getfixturevalue("shared_control"))
    else:
        server: RedisServer = request.getfixturevalue("shared_redis")
        made = release_stores.in_redis(server.port, secrets.token_hex(4))
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_control() -> Iterator[ControlService]:
    with ControlService() as service:
        yield service


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "releases")
