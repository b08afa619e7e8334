"""Tenants through the real door: none disturbs another."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from headrace.cli.installation import layout
from tests.live_access import same_tenants_after
from tests.system import HOME, System, headrace, poll, row_request

OK = grpc.StatusCode.OK
SEEN_S = 60.0


@pytest.fixture(autouse=True)
def _same_tenants_after(system: System) -> Iterator[None]:
    with same_tenants_after(layout.of(HOME)):
        yield


def create(tenant: str, *options: str) -> str:
    """A new key of a tenant, as the command prints it."""
    return headrace("keys", "create", tenant, *options).strip()


def outcome(system: System, key: str) -> tuple[grpc.StatusCode, dict[str, Any]]:
    """How one prediction ends: its code and trailers."""
    try:
        system.predict(row_request(system.rows[0]), key=key)
    except grpc.RpcError as raised:
        error: Any = raised
        return error.code(), dict(error.trailing_metadata() or ())
    return OK, {}


def code(system: System, key: str) -> grpc.StatusCode:
    return outcome(system, key)[0]


def until(system: System, key: str, wanted: grpc.StatusCode) -> None:
    poll(f"{wanted} for the key", lambda: code(system, key) is wanted, within_s=SEEN_S)


def test_a_burst_of_one_tenant_leaves_the_others_alone(system: System) -> None:
    key = create("eager", "--pipeline", "flights")
    # A row in five seconds: less than a busy machine asks for, one call after the other.
    headrace("tenants", "set", "eager", "--rows-per-s", "0.2", "--rows-burst", "4")
    until(system, key, grpc.StatusCode.RESOURCE_EXHAUSTED)

    with ThreadPoolExecutor(8) as threads:
        bursts = [threads.submit(outcome, system, key) for _ in range(40)]
        others = [threads.submit(code, system, system.key) for _ in range(40)]
        answers = [burst.result() for burst in bursts]
        assert {other.result() for other in others} == {OK}
    assert {answer for answer, _ in answers} <= {OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    hints = [trailers["grpc-retry-pushback-ms"] for answer, trailers in answers if answer is not OK]
    assert len(hints) > 20
    assert all(0 < int(hint) <= 5_000 for hint in hints)
    # Who waits as long as the hint says is served.
    time.sleep(int(hints[-1]) / 1000)
    until(system, key, OK)
