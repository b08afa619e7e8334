"""One system that is watched, for all faults; its processes have a clock that can be wrong."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.alarmed_system import Alarmed
from tests.chaos.clock import Clock
from tests.chaos.record import ChaosRecord


@pytest.fixture(scope="session")
def alarmed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alarmed]:
    """In HOME; ended after the last test."""
    folder = tmp_path_factory.mktemp("chaos")
    # Only for the test that needs it: it is in the way of each look at the clock.
    wanted = any("clock" in item.name for item in request.session.items)
    clock = Clock.of(folder) if wanted else None
    if clock is not None:
        clock.ahead("+0")
    with (
        Alarmed.running(folder, clock.environment() if clock else {}) as running,
        # Each test sends what it counts; the rest would only load the machine.
        running.dice.of(None),
        running.traffic.of(None),
    ):
        yield running


@pytest.fixture(scope="session")
def record() -> ChaosRecord:
    """Written to the file that HEADRACE_CHAOS_RECORD names, if it does."""
    path = os.environ.get("HEADRACE_CHAOS_RECORD")
    return ChaosRecord(Path(path) if path else None)
