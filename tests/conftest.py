"""What all tests share: properties are not timed, and processes that a test starts know nothing of its imports."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# The machine's speed is not what a property is about.
settings.register_profile("headrace", deadline=None)
settings.load_profile("headrace")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Feast's import sets this; a process started with it keeps its metrics in files that it leaves behind."""
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
