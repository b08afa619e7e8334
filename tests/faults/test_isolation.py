"""Whatever one tenant does, another one's predictions fail never.

`HEADRACE_ISOLATION_CASES=1000 pytest --timeout 0 tests/faults/test_isolation.py` runs many more cases.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from services.ingress.protocols.rest import protocol as rest
from tests.faults.hostile import REST, Case, content
from tests.faults.isolation import RATE, Scene
from tests.system import System, poll, row_request

EXPLAIN = "/headrace.api.inference.v1.InferenceService/Explain"
CASES = int(os.environ.get("HEADRACE_ISOLATION_CASES", "40"))


@pytest.fixture(scope="module")
def scene(system: System) -> Iterator[Scene]:
    made = Scene(system)
    yield made
    made.check_calm()


async def done(scene: Scene, cases: Sequence[Case]) -> list[str]:
    """What failed of another tenant's predictions beside these cases."""
    async with scene.running():
        for number, case in enumerate(cases):
            await scene.run(number, case)
    return scene.failures()


def test_every_rpc_has_a_request_in_every_form(scene: Scene) -> None:
    assert {EXPLAIN, "/inference.GRPCInferenceService/ModelStreamInfer"} <= scene.rpcs.keys()
    assert len({Case.of(number, scene.rpcs).path for number in range(CASES)}) == len(scene.rpcs)
    for rpc in scene.rpcs.values():
        assert content(rpc, "grpc", "flights", "few") or not rpc.input_type.fields
        assert content(rpc, "json", "flights", "one")
    assert len(REST) == len(rest._READS) + 7


def test_many_explanations_of_one_tenant_leave_another_its_turn(scene: Scene, system: System) -> None:
    with system.channel() as channel:
        explain: Any = channel.unary_unary(
            EXPLAIN, pb.ExplainRequest.SerializeToString, pb.ExplainResponse.FromString
        )

        def begin(tenant: str, rows: int) -> Any:
            request = pb.ExplainRequest(pipeline="flights", rows=row_request(*system.rows[:rows]).rows)
            return explain.future(request, timeout=240, metadata=system.auth(scene.keys[tenant]))

        many = [begin("generous", 8) for _ in range(8)]
        poll("one tenant has half of the line", lambda: sum(call.done() for call in many) == 4)
        assert {dict(c.trailing_metadata())["grpc-retry-pushback-ms"] for c in many if c.done()} == {"1000"}
        # Behind it the 32 rows of the other tenant would all be done first.
        assert len(begin("good", 1).result().rows) == 1
        assert sum(call.done() for call in many) == 4
        for call in many:
            call.cancel()


def test_short_explanations_of_one_tenant_fail_no_prediction_of_another(scene: Scene) -> None:
    # With few predictions the failures of others weigh the more.
    scene.good.rate = 10
    try:
        case = Case(EXPLAIN, deadline_s=0.1, rate=4.0, tenant="generous", seconds=10.0)
        assert not asyncio.run(done(scene, [case]))
    finally:
        scene.good.rate = RATE


def test_hostile_tenants_fail_no_prediction_of_another(scene: Scene) -> None:
    assert not asyncio.run(done(scene, [Case.of(number, scene.rpcs) for number in range(CASES)]))
