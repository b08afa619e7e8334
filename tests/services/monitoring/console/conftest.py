"""A home with one release."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.services.monitoring.console.console_place import Browser, Place


@pytest.fixture
def empty_place(tmp_path: Path) -> Iterator[Place]:
    """Without a release."""
    made = Place(tmp_path)
    with closing(made):
        yield made


@pytest.fixture
def place(empty_place: Place) -> Place:
    empty_place.deploy()
    return empty_place


@pytest.fixture
async def browser(place: Place) -> AsyncIterator[Browser]:
    """In which the operator has signed in."""
    async with place.operator() as found:
        yield found
