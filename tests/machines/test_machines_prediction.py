"""All eight services on three machines answer as one machine does, and only who shows a certificate gets an answer at all."""

from collections.abc import Iterator
from importlib import import_module

import grpc
import pytest

from headrace.cli.installation import services
from tests.gauges import samples
from tests.machines import manifests
from tests.machines.authority import Authority
from tests.machines.cluster import Cluster
from tests.machines.machines_system import MachinesSystem
from tests.machines.stranger import asked
from tests.served import deployed
from tests.system import PATIENT_MS, ROOT, System, deadline, row_request

COPY = "patient"
ROWS = 64
# On a busy machine features may come too late, so that a prediction is made without them and says so.
ATTEMPTS = 20
# On the way of a prediction; monitoring and control are beside it.
CALLED = ("router", "features", "preprocessing", "executor", "postprocessing")


@pytest.fixture(scope="module")
def one_machine() -> list[dict[str, object]]:
    """Predictions of one machine, on the SQLite that its features are in."""
    running = System.up("together")
    try:
        return _predicted(running, "flights")
    finally:
        running.down()


@pytest.fixture
def system(cluster: Cluster) -> Iterator[MachinesSystem]:
    running = MachinesSystem(cluster)
    yield running
    running.leave()


def test_predictions_have_the_same_bits_as_on_one_machine(
    one_machine: list[dict[str, object]], system: MachinesSystem
) -> None:
    # As patient as the one machine is: what they say is asked, not how fast.
    text = deadline((ROOT / "deploy" / "pipelines" / "flights" / "pipeline.yaml").read_text(), PATIENT_MS)
    with deployed(system, COPY, text.replace("pipeline: flights", f"pipeline: {COPY}")):
        assert _predicted(system, COPY) == one_machine
    for service in CALLED:
        assert sum(value for _, value in samples(system, "headrace_hop_server_calls_total", [service])), (
            service
        )


@pytest.mark.parametrize("service", [name for name in services.start_order() if name != services.INGRESS])
def test_a_caller_without_the_right_certificate_gets_no_answer(cluster: Cluster, service: str) -> None:
    pod = cluster.of(service)[0]
    assert asked(cluster, pod, shown=None) is grpc.StatusCode.UNAVAILABLE
    assert asked(cluster, pod, shown=Authority()) is grpc.StatusCode.UNAVAILABLE
    assert asked(cluster, pod, shown=cluster.authority) is grpc.StatusCode.OK


@pytest.mark.parametrize("service", [*CALLED, services.CONTROL])
def test_only_its_callers_may_call_a_service(cluster: Cluster, service: str) -> None:
    pod, method = cluster.of(service)[0], _method(service)
    callers = manifests.callers(service)
    assert callers
    for named in services.start_order():
        found = asked(cluster, pod, cluster.authority, named, method)
        assert (found is not grpc.StatusCode.PERMISSION_DENIED) is (named in callers), named
        assert found is not grpc.StatusCode.UNAVAILABLE


def _method(service: str) -> str:
    """The path of a method that the service has."""
    file = "records" if service == services.CONTROL else service
    [contract] = import_module(f"headrace.api.{service}.v1.{file}_pb2").DESCRIPTOR.services_by_name.values()
    return f"/{contract.full_name}/{contract.methods[0].name}"


def _predicted(system: System, pipeline: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for begin in range(0, ROWS, 16):
        for _ in range(ATTEMPTS):
            rows = system.rows[begin : begin + 16]
            answer = system.predict(row_request(*rows, pipeline=pipeline), timeout=20)
            if not any(prediction.fallbacks for prediction in answer.predictions):
                break
        found += [
            {"outputs": dict(p.outputs), "error": str(p.error), "fallbacks": list(p.fallbacks)}
            for p in answer.predictions
        ]
    return found
