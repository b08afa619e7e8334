"""All seven services on three machines answer as one machine does, and only who shows a certificate gets an answer at all."""

from __future__ import annotations

import grpc
import pytest

from headrace.cli.deployment import service_settings
from headrace.cli.installation import services
from tests.gauges import samples
from tests.machines.authority import Authority
from tests.machines.cluster import Cluster
from tests.machines.machines_system import MachinesSystem
from tests.machines.stranger import asked
from tests.system import System, row_request

ROWS = 64
# On the way of a prediction; monitoring is beside it.
CALLED = ("router", "features", "preprocessing", "executor", "postprocessing")


@pytest.fixture(scope="module")
def one_machine() -> list[dict[str, object]]:
    """Predictions of one machine, on the SQLite that its features are in."""
    running = System.up("together")
    try:
        return _predicted(running)
    finally:
        running.down()


@pytest.fixture
def system(cluster: Cluster) -> MachinesSystem:
    return MachinesSystem(cluster)


def test_predictions_have_the_same_bits_as_on_one_machine(
    one_machine: list[dict[str, object]], system: MachinesSystem
) -> None:
    assert _predicted(system) == one_machine
    for service in CALLED:
        assert sum(value for _, value in samples(system, "headrace_hop_server_calls_total", [service])), (
            service
        )


@pytest.mark.parametrize("service", [name for name in services.start_order() if name != services.INGRESS])
def test_a_caller_without_the_right_certificate_gets_no_answer(cluster: Cluster, service: str) -> None:
    pod = cluster.of(service)[0]
    assert asked(cluster, pod, shown=None) is grpc.StatusCode.UNAVAILABLE
    assert asked(cluster, pod, shown=Authority()) is grpc.StatusCode.UNAVAILABLE
    known = (
        grpc.StatusCode.OK
        if "router" in service_settings.callers(service)
        else grpc.StatusCode.PERMISSION_DENIED
    )
    assert asked(cluster, pod, shown=cluster.authority) is known


def _predicted(system: System) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for begin in range(0, ROWS, 16):
        answer = system.predict(row_request(*system.rows[begin : begin + 16]), timeout=20)
        found += [
            {"outputs": dict(p.outputs), "error": str(p.error), "fallbacks": list(p.fallbacks)}
            for p in answer.predictions
        ]
    return found
