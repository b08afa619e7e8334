"""The whole system, as a newcomer starts it: `headrace up` in a home of its own, in both shapes.

With HEADRACE_TESTS_MACHINES set it is a cluster of three machines instead, and tests that are bound to one home are deselected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.system import System, prepared

MACHINES = bool(os.environ.get("HEADRACE_TESTS_MACHINES"))
SHAPES = ("machines",) if MACHINES else ("apart", "together")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With machines, leaves the tests that they can run."""
    if not MACHINES:
        return
    from tests.machines.one_home import why_bound

    def bound(item: pytest.Item) -> bool:
        if item.path.parent.name != "pipeline":
            return False  # the hook sees all tests of the run
        alone = "system" not in getattr(item, "fixturenames", ())
        return alone or bool(why_bound(item.path.name, item.name.partition("[")[0]))

    config.hook.pytest_deselected(items=[item for item in items if bound(item)])
    items[:] = [item for item in items if not bound(item)]


@pytest.fixture(scope="session", params=SHAPES)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    running = _machines() if MACHINES else System.up(request.param)
    try:
        yield running
    finally:
        running.down()


def _machines() -> System:
    from tests.machines.cluster import Cluster
    from tests.machines.machines_system import MachinesSystem

    prepared()
    cluster = Cluster()
    try:
        cluster.up()
    except BaseException:
        cluster.close()
        raise
    return MachinesSystem(cluster)
