"""What operators ask at the door, over gRPC and JSON."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.api.router.v1 import router_pb2
from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from services.ingress.clients import HopServing
from services.ingress.operations.servicer import OperationsServicer
from tests.services.ingress.ingress_calls import call, operating, refused
from tests.services.ingress.ingress_door import FakeRouter, Folder, definition

if TYPE_CHECKING:
    from headrace.hop.client.dial import Client

PATH = "/headrace.api.operations.v1.OperationsService/"
ROLLOUT, EXPERIMENT, SHADOWS = PATH + "GetRollout", PATH + "ReadExperiment", PATH + "GetShadowReport"
on_the_door = pytest.mark.asyncio(loop_scope="session")


@on_the_door
async def test_an_operator_reads_how_a_rollout_an_experiment_and_shadows_stand(door: Folder) -> None:
    key = door.keys.operator
    rollout = await call(
        door, ROLLOUT, pb.GetRolloutRequest(pipeline="double"), pb.GetRolloutResponse, key=key
    )
    assert "not judged here" in rollout.rollout.problem
    asked = pb.ReadExperimentRequest(pipeline="double")
    assert not (await call(door, EXPERIMENT, asked, pb.ReadExperimentResponse, key=key)).experiment.experiment
    of = pb.GetShadowReportRequest(pipeline="double")
    of.begin_time.FromSeconds(1)
    assert (await call(door, SHADOWS, of, pb.GetShadowReportResponse, key=key)).HasField("shadow")
    code, reason, message = await refused(
        door, ROLLOUT, pb.GetRolloutRequest(pipeline="../x"), pb.GetRolloutResponse, key=key
    )
    assert (code, reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    assert "pipeline" in message


GONE = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "gone")


async def test_of_several_analysers_the_one_that_judges_is_heard() -> None:
    def answer(leads: bool, release: int) -> monitoring_pb2.GetRolloutResponse:
        return monitoring_pb2.GetRolloutResponse(leads=leads, release=release)

    async def heard(*answers: object) -> int:
        found = await servicer(answers).GetRollout(pb.GetRolloutRequest(pipeline="p"), operating("operate:p"))
        return found.rollout.release

    assert await heard(GONE, answer(False, 9), answer(True, 3), answer(False, 0)) == 3
    assert await heard(answer(False, 0), answer(False, 4)) == 4
    with pytest.raises(Fault, match="`operate:p`"):
        await servicer([]).GetRollout(pb.GetRolloutRequest(pipeline="p"), operating("operate:other"))


def servicer(answers: Sequence[object]) -> OperationsServicer:
    """Every replica of monitoring answers as given."""
    replicas = cast("Client", Replicas(answers))
    return OperationsServicer(replicas)


class Replicas:
    """The part of a client that is used."""

    def __init__(self, answers: Sequence[object]) -> None:
        self._answers = answers

    def each(self, _method: object) -> object:
        async def call_each(_request: object, *, deadline: float) -> list[object]:
            assert deadline < math.inf
            return list(self._answers)

        return call_each

    def unary(self, _method: object) -> None:
        """Experiments and shadows are asked of any replica."""


@dataclass
class Router(FakeRouter):
    """Serves these revisions; None: it can't say."""

    serves: Mapping[str, str] | None = field(default_factory=dict)

    async def ListPipelines(
        self, request: router_pb2.ListPipelinesRequest, call: Call
    ) -> router_pb2.ListPipelinesResponse:
        if self.serves is None:
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "it starts")
        found = [
            router_pb2.PipelineVersion(name=name, revision=revision) for name, revision in self.serves.items()
        ]
        return router_pb2.ListPipelinesResponse(pipelines=found)


async def test_a_revision_is_served_once_all_routers_that_answer_serve_it() -> None:
    one, other = Router(serves={"p": "new", "q": "1"}), Router(serves={"p": "old", "q": "1"})
    async with served(definition(one)) as first, served(definition(other)) as second:
        client = first.client(target=f"{first.target},{second.target}")
        serving = HopServing(client, time.monotonic)
        assert await serving() == {"q": "1"}
        other.serves = {"p": "new", "q": "1"}
        assert await serving() == {"p": "new", "q": "1"}
        other.serves = None
        assert await serving() == {"p": "new", "q": "1"}
        one.serves = None
        assert await serving() == {}
