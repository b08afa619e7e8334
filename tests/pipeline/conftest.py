"""The whole system, as a newcomer starts it: `headrace up` in a home of its own, in both shapes.

With HEADRACE_TESTS_MACHINES set it is a cluster of three machines instead, and tests that are bound to one home are deselected.
"""

import os
from collections.abc import Iterator

import pytest

from tests.machines.one_home import why_bound
from tests.system import PATIENT, System, prepared

MACHINES = bool(os.environ.get("HEADRACE_TESTS_MACHINES"))
SHAPES = ("machines",) if MACHINES else ("apart", "together")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With machines, leaves the tests that they can run."""
    # The hook sees all tests of the run; other folders have this name too.
    here = [item for item in items if item.path.parent == config.rootpath / "tests" / "pipeline"]
    bound = {item: why_bound(item.path.name, item.name.partition("[")[0]) for item in here}
    alone = [item for item in here if "system" not in getattr(item, "fixturenames", ())]
    if unlisted := sorted({item.nodeid for item in alone if not bound[item]}):
        raise pytest.UsageError(
            f"take no `system`, so that they can't run against machines; to be listed in tests/machines/one_home.py: {unlisted}"
        )
    if MACHINES:
        config.hook.pytest_deselected(items=[item for item in here if bound[item]])
        items[:] = [item for item in items if not bound.get(item)]


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
    cluster = Cluster({"features": PATIENT})
    try:
        cluster.up()
        system = MachinesSystem(cluster)
        system.patient()
    except BaseException:
        cluster.close()
        raise
    return system
