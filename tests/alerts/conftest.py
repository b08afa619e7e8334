"""One system that is watched, for all causes."""

from collections.abc import Iterator

import pytest

from tests.alerts.alarmed_system import Alarmed


@pytest.fixture(scope="session")
def alarmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alarmed]:
    """In HOME; ended after the last test."""
    with Alarmed.running(tmp_path_factory.mktemp("alarmed")) as running:
        yield running
