"""A repository to publish models into."""

from pathlib import Path

import pytest


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty repository."""
    root = tmp_path / "models"
    root.mkdir()
    return root
