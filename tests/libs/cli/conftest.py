"""Homes: with models and a document, and one that takes seconds to make, once for all tests."""

from pathlib import Path

import pytest

from tests.libs.cli import released_home
from tests.libs.cli import replay_home as replay


@pytest.fixture(scope="session")
def replay_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `replay_home.made`."""
    return replay.made(tmp_path_factory.mktemp("replay"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with models and a document; nothing is live yet."""
    return released_home.made(tmp_path / "home")
