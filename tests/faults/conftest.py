"""Faults are provoked in the apart shape, where a service is a process that can be killed, unless a test asks for another
by `@pytest.mark.parametrize("system", [...], indirect=True)`: "together"; "grpc", which is apart with the door behind
a stock Envoy; "small disk", which is apart in a home that has a disk of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.disks import own_disk, shrink
from tests.system import HOME, System, prepared


@pytest.fixture(scope="session")
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    kind = getattr(request, "param", "apart")
    with ExitStack() as stack:
        if kind == "small disk":
            prepared()
            stack.enter_context(own_disk(HOME))
        door = {"mode": "grpc"} if kind == "grpc" else None
        running = System.up("together" if kind == "together" else "apart", ingress=door)
        stack.callback(running.down)
        if kind == "small disk":
            shrink(HOME, room_mib=64)
        yield running
