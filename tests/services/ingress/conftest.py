"""One door for all tests of this folder that need a real one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.hop import testing
from services.monitoring.wiring import SERVICE as MONITORING
from tests.disks import tiny_disk
from tests.libs.state.valkey import Valkey
from tests.services.ingress import released_door as releases
from tests.services.ingress.ingress_door import COARSE, FACTS, FakeRouter, Folder, running


@pytest.fixture(scope="session")
def router() -> FakeRouter:
    return FakeRouter()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def door(router: FakeRouter, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Folder]:
    """A door with monitoring beside it."""
    path = tmp_path_factory.mktemp("door")
    async with testing.served(MONITORING, {"database": str(path / FACTS)}) as monitoring:
        analysis = {"target": monitoring.target}
        async with running(path, router, monitoring=analysis, further=[COARSE]) as process:
            yield process.folder


@pytest.fixture(scope="module")
def narrow_router() -> FakeRouter:
    return FakeRouter()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def narrow(
    narrow_router: FakeRouter, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Folder]:
    """A door with a single place."""
    places, path = {"initial": 1, "minimum": 1, "maximum": 1}, tmp_path_factory.mktemp("narrow")
    # Who has the place keeps it for as long as a test holds it.
    async with running(path, narrow_router, deadline_ms=60_000, admission=places) as process:
        yield process.folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def releases_door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[releases.ReleasedFolder]:
    """A door with a control."""
    async with releases.running(tmp_path_factory.mktemp("releases")) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A real Redis for the tests of one file."""
    with Valkey(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes one MiB."""
    with tiny_disk(tmp_path) as disk:
        yield disk
