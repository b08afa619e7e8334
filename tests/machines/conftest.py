"""A cluster of three machines; skipped by name where the kernel or the programs for it are missing."""

import os
from collections.abc import Iterator

import pytest

from headrace.cli.installation import services
from tests.machines import containers
from tests.machines.cluster import CONTAINERS, VERSION, Cluster
from tests.programs import needs_program
from tests.system import prepared

# kustomize: containers have the memory limits of the manifests.
PROGRAMS = ("ip", "nft", "dnsmasq", "nsenter", "unshare", "redis-server", "kustomize")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder takes minutes, and needs what only root may do."""
    lacks = containers.missing(list(services.start_order()), VERSION) if CONTAINERS else ""
    for item in items:
        if item.path.parent.name == "machines":
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(1800))
            item.add_marker(pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"))
            if lacks:
                item.add_marker(pytest.mark.skip(reason=f"no image here, see `make images`: {lacks}"))
            for program in PROGRAMS:
                item.add_marker(needs_program(program))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    prepared()
    running = Cluster()
    try:
        running.up()
        yield running
    finally:
        running.close()
