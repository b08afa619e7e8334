"""The fuzz runs against the together shape: one process, so that a crash can't hide behind a restart."""

from collections.abc import Iterator

import pytest

from tests.system import System
from tests.unexpected import nothing_unexpected


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    running = System.up("together")
    try:
        yield running
    finally:
        running.down()


@pytest.fixture(autouse=True)
def _still_up(system: System) -> Iterator[None]:
    with nothing_unexpected(system):
        yield
