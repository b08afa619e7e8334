"""What all tests share: properties are not timed, and processes that a test starts know nothing of its imports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The machine's speed is not what a property is about.
settings.register_profile("headrace", deadline=None)
settings.load_profile("headrace")


# These share one running system and its home, so one process of pytest-xdist runs them all, one after another.
_OF_THE_SYSTEM = frozenset({"pipeline", "workers", "faults", "fuzz"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says which tests belong together; the others run beside them."""
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).parts[0] in _OF_THE_SYSTEM:
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Feast's import sets this; a process started with it keeps its metrics in files that it leaves behind."""
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
