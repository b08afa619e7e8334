"""One system that is watched, for all causes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.alarmed_system import Alarmed
from tests.alerts.record import Record


@pytest.fixture(scope="session")
def alarmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alarmed]:
    """In HOME; ended after the last test."""
    with Alarmed.running(tmp_path_factory.mktemp("alarmed")) as running:
        yield running


@pytest.fixture(scope="session")
def record() -> Record:
    """Written to the file that HEADRACE_ALERTS_RECORD names, if it does."""
    path = os.environ.get("HEADRACE_ALERTS_RECORD")
    return Record(Path(path) if path else None)
