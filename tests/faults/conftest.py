"""Faults are provoked in the apart shape, where a service is a process that can be killed, unless a test asks for another
by `@pytest.mark.parametrize("system", [...], indirect=True)`: "together", or "grpc", which is apart with the door behind
a stock Envoy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import System


@pytest.fixture(scope="session")
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    kind = getattr(request, "param", "apart")
    running = System.up("apart", ingress={"mode": "grpc"}) if kind == "grpc" else System.up(kind)
    try:
        yield running
    finally:
        running.down()
