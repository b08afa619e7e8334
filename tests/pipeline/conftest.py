"""The whole system, as a newcomer starts it: `headrace up` in a home of its own, in both shapes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import System

SHAPES = ("apart", "together")


@pytest.fixture(scope="session", params=SHAPES)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    running = System.up(request.param)
    try:
        yield running
    finally:
        running.down()
