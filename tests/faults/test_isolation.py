"""Whatever one tenant does, another one's predictions fail never. `python -m tests.faults.isolation` runs many more cases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from services.ingress.protocols.rest import protocol as rest
from tests.faults.hostile import REST, Case, content
from tests.faults.isolation import Scene
from tests.system import System

EXPLAIN = "/headrace.api.inference.v1.InferenceService/Explain"
CASES = 40


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


def test_short_explanations_of_one_tenant_fail_no_prediction_of_another(scene: Scene) -> None:
    case = Case(EXPLAIN, deadline_s=0.1, callers=2, rate=4.0, tenant="hostile", seconds=10.0)
    assert not asyncio.run(done(scene, [case]))


def test_hostile_tenants_fail_no_prediction_of_another(scene: Scene) -> None:
    assert not asyncio.run(done(scene, [Case.of(number, scene.rpcs) for number in range(CASES)]))
