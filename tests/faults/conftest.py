"""Faults are provoked in the apart shape: there a service is a process that can be killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import System


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    running = System.up("apart")
    try:
        yield running
    finally:
        running.down()
