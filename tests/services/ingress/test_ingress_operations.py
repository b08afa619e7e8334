"""What operators ask at the door, over gRPC and JSON."""

import math
from collections.abc import Sequence

import pytest

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.api.router.v1 import shadow_pb2
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.clients import HopAnalysis, HopShadowReports
from tests.services.ingress.ingress_calls import call, post, refused
from tests.services.ingress.ingress_door import Folder

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


async def test_of_several_analysers_the_one_that_judges_is_heard() -> None:
    def answer(leads: bool, release: int) -> monitoring_pb2.GetRolloutResponse:
        return monitoring_pb2.GetRolloutResponse(leads=leads, release=release)

    gone = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "gone")
    client = Replicas([gone, answer(False, 9), answer(True, 3), answer(False, 0)])
    assert (await HopAnalysis(client).rollout("p", 9.0)).release == 3  # type: ignore[arg-type]  # the part that is used
    nobody = Replicas([answer(False, 0), answer(False, 4)])
    assert (await HopAnalysis(nobody).rollout("p", 9.0)).release == 4  # type: ignore[arg-type]  # likewise


class Replicas:
    """A client whose routers answer as given."""

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
        report = shadow_pb2.ShadowReport(pipeline="p", release=2, arm="next", both_answered_count=rows)
        report.began_time.FromSeconds(rows)
        return shadow_pb2.GetShadowReportResponse(reports=[report])

    gone = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "gone")
    client = Replicas([reply(3), gone, reply(4)])
    found = await HopShadowReports(client).reports("p", 9.0)  # type: ignore[arg-type]  # the part that is used
    assert (found.routers, found.silent) == (2, 1)
    assert [r.both_answered for r in found.reports] == [7]
    with pytest.raises(Fault) as error:
        await HopShadowReports(Replicas([gone])).reports("p", 9.0)  # type: ignore[arg-type]  # likewise
    assert error.value is gone
