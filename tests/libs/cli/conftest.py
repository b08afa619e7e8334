"""What takes seconds to make, once for all tests."""

from pathlib import Path

import pytest

from tests.libs.cli.replay_home import made


@pytest.fixture(scope="session")
def replay_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `replay_home.made`."""
    return made(tmp_path_factory.mktemp("replay"))
