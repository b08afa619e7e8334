"""Several processes of one service, behind one port or one folder, in both shapes."""

from collections.abc import Iterator

import pytest

from tests.system import System

OPTIONS = {
    "apart": ("--workers", "2", "--replicas", "executor=2", "--replicas", "preprocessing=2"),
    "together": ("--workers", "2"),
}


@pytest.fixture(scope="session", params=OPTIONS)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    running = System.up(request.param, *OPTIONS[request.param])
    try:
        yield running
    finally:
        running.down()
