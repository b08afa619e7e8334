"""A home with one release."""

from pathlib import Path

import pytest

from tests.services.monitoring.console.console_place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.deploy()
    return made
