"""A home with one release."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.monitoring.console.console_place import Browser, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.deploy()
    return made


@pytest.fixture
async def browser(place: Place) -> AsyncIterator[Browser]:
    """In which the operator has signed in."""
    async with place.operator() as found:
        yield found
