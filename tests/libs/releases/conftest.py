"""Stores of releases, each empty: in SQLite, in PostgreSQL and through a control."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.libs.releases.small_pipeline import Home
from tests.released import releases_in


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with releases_in(tmp_path) as store:
        yield Home(store, tmp_path)
