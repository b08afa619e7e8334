"""Homes: with models and a document, and one that takes seconds to make, once for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control_service import Here, control_here
from tests.libs.cli import released_home
from tests.libs.cli import replay_home as replay


@pytest.fixture(scope="session")
def replay_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """See `replay_home.made`."""
    folder = tmp_path_factory.mktemp("replay")
    with control_here(folder / "control") as control:
        yield replay.made(folder, control.target)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Here]:
    with control_here(tmp_path / "control") as found:
        yield found


@pytest.fixture
def home(tmp_path: Path, control: Here) -> Path:
    """A home with models and a document; nothing is live yet."""
    return released_home.made(tmp_path / "home", control.target)
