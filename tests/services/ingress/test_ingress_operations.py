"""What operators ask at the door, over gRPC and JSON."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import pytest

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.api.router.v1 import shadow_pb2
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.operations.servicer import OperationsServicer
from tests.services.ingress.ingress_calls import call, operating, post, refused
from tests.services.ingress.ingress_door import Folder

if TYPE_CHECKING:
    from headrace.hop.client.dial import Client

PATH = "/headrace.api.operations.v1.OperationsService/GetShadowReport"
REQUEST = pb.GetShadowReportRequest(pipeline="double")
on_the_door = pytest.mark.asyncio(loop_scope="session")


@on_the_door
async def test_an_operator_gets_the_report_of_shadows(door: Folder) -> None:
    key = door.keys.operator
    reply = await call(door, PATH, REQUEST, pb.GetShadowReportResponse, key=key)
    assert (reply.router_count, reply.silent_router_count) == (1, 0)
    assert [(r.pipeline, r.release, r.both_answered_count) for r in reply.reports] == [("double", 4, 7)]
    status, found = await post(door, PATH, {"pipeline": "double"}, key)
    assert status == 200
    assert found["reports"][0]["arm"] == "next"


ROLLOUT = PATH.replace("GetShadowReport", "GetRollout")
EXPERIMENT = PATH.replace("GetShadowReport", "ReadExperiment")


@on_the_door
async def test_an_operator_reads_how_a_rollout_and_an_experiment_stand(door: Folder) -> None:
    key = door.keys.operator
    rollout = await call(
        door, ROLLOUT, pb.GetRolloutRequest(pipeline="double"), pb.GetRolloutResponse, key=key
    )
    assert "not judged here" in rollout.rollout.problem
    asked = pb.ReadExperimentRequest(pipeline="double")
    assert not (await call(door, EXPERIMENT, asked, pb.ReadExperimentResponse, key=key)).experiment.experiment
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
    """Every router, and every replica of monitoring, answers as given."""
    replicas = cast("Client", Replicas(answers))
    return OperationsServicer(replicas, replicas)


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
        """Experiments are asked of any replica."""


async def test_the_reports_of_all_routers_add_up() -> None:
    def reply(rows: int) -> shadow_pb2.GetShadowReportResponse:
        reports = [
            shadow_pb2.ShadowReport(pipeline=name, release=2, arm="next", both_answered_count=rows)
            for name in ("p", "q")
        ]
        for report in reports:
            report.began_time.FromSeconds(rows)
        return shadow_pb2.GetShadowReportResponse(reports=reports)

    asked = pb.GetShadowReportRequest()
    found = await servicer([reply(3), GONE, reply(4)]).GetShadowReport(asked, operating("operate"))
    assert (found.router_count, found.silent_router_count) == (2, 1)
    assert [(r.pipeline, r.both_answered_count) for r in found.reports] == [("p", 7), ("q", 7)]
    mine = await servicer([reply(3)]).GetShadowReport(asked, operating("operate:p"))
    assert [r.pipeline for r in mine.reports] == ["p"]
    with pytest.raises(Fault) as error:
        await servicer([GONE]).GetShadowReport(asked, operating("operate"))
    assert error.value is GONE
