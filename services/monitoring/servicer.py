"""MonitoringService: messages → domain → messages."""

from __future__ import annotations

from collections.abc import Callable

from headrace.analysis import Count, Difference, ReadOut, lower_bound, upper_bound
from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.api.monitoring.v1 import shadow_pb2
from headrace.hop.call import Call
from services.monitoring import errors
from services.monitoring.events.reception import Reception
from services.monitoring.guards.guard import Finding
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.records import MAX_OUTCOMES, Outcome, OutcomeError, StorageError
from services.monitoring.queries.shadow import shadow_reports
from services.monitoring.rollouts.analyser import Analysis, Status

# Of an interval that is shown: it misses the true rate at any look, on either side.
_ALPHA = 0.05
_NOT_HERE = "rollouts are not judged here: the setting `control` is absent"


class MonitoringServicer:
    """Serves headrace.api.monitoring.v1.MonitoringService. `wall`: seconds since 1970."""

    def __init__(self, recorder: Recorder, wall: Callable[[], float]) -> None:
        self._recorder = recorder
        self._wall = wall

    async def RecordOutcomes(
        self, request: pb.RecordOutcomesRequest, call: Call
    ) -> pb.RecordOutcomesResponse:
        errors.check_trusted(call)
        if len(request.outcomes) > MAX_OUTCOMES:
            raise errors.too_many(len(request.outcomes), MAX_OUTCOMES)
        now = self._wall()
        outcomes = [_outcome(message, now) for message in request.outcomes]
        try:
            recorded = await self._recorder.record(request.tenant, outcomes)
        except OutcomeError as error:
            raise errors.unreadable(str(error)) from None
        except StorageError as error:
            raise errors.storage_unavailable(str(error)) from None
        return pb.RecordOutcomesResponse(accepted_count=len(outcomes), unknown_count=recorded.unknown)


class AnalysisServicer:
    """Serves headrace.api.monitoring.v1.AnalysisService. `analysis`: None: rollouts are not judged here."""

    def __init__(self, analysis: Analysis | None, events: Reception) -> None:
        self._analysis = analysis
        self._events = events

    async def GetShadowReport(
        self, request: shadow_pb2.GetShadowReportRequest, call: Call
    ) -> shadow_pb2.GetShadowReportResponse:
        errors.check_trusted(call)
        if not request.pipeline:
            raise errors.unreadable("pipeline must be named")
        first_us = request.begin_time.ToMicroseconds() if request.HasField("begin_time") else 0
        try:
            found = await self._events.over(lambda store: shadow_reports(store, request.pipeline, first_us))
        except StorageError as error:
            raise errors.events_unavailable(str(error)) from None
        reports, unreadable = found or ([], set())
        return shadow_pb2.GetShadowReportResponse(reports=reports, unreadable_files=sorted(unreadable))

    async def GetRollout(self, request: pb.GetRolloutRequest, call: Call) -> pb.GetRolloutResponse:
        errors.check_trusted(call)
        if self._analysis is None:
            return pb.GetRolloutResponse(problem=_NOT_HERE)
        analyser = self._analysis.analyser
        status = analyser.status(request.pipeline)
        problem = analyser.problem or (status.problem if status else "")
        response = pb.GetRolloutResponse(leads=analyser.leads, problem=problem)
        if status is not None:
            _tell_status(status, response)
        return response

    async def ReadExperiment(
        self, request: pb.ReadExperimentRequest, call: Call
    ) -> pb.ReadExperimentResponse:
        errors.check_trusted(call)
        if self._analysis is None:
            return pb.ReadExperimentResponse()
        try:
            found = await self._analysis.read_out(request.pipeline)
        except (StorageError, OSError) as error:
            raise errors.unread(str(error)) from None
        if found is None:
            return pb.ReadExperimentResponse()
        experiment, read_out = found
        return pb.ReadExperimentResponse(
            experiment=experiment.name,
            phase=experiment.phase,
            arms=[_arm(name, read_out) for name in read_out.arms],
            crossed_key_count=read_out.crossed,
            sample_ratio_expected=read_out.sample_ratio == "as expected",
            sample_ratio_log_evidence=read_out.sample_ratio_log_e,
        )


def _tell_status(status: Status, response: pb.GetRolloutResponse) -> None:
    response.release = status.number
    response.look_time.FromMilliseconds(round(status.looked * 1000))
    judgement, answer = status.judgement, status.answer
    if judgement is None or answer is None:
        return
    response.action, response.verdict = str(answer.action), str(judgement.guards_say)
    response.weight, response.waits_for = answer.weight, answer.reason
    response.reason = f"{answer.reason}. {judgement.figures}"
    response.sample_ratio_evidence, response.unit_count = judgement.ratio_e, judgement.units
    response.guards.extend(_guard(guard) for guard in judgement.guards)
    if answer.ends is not None:
        response.deadline_time.FromMilliseconds(round(answer.ends * 1000))


def _guard(found: Finding) -> pb.GuardFigures:
    return pb.GuardFigures(
        guard=found.name,
        verdict=str(found.verdict),
        live=_rate(found.live),
        canary=_rate(found.canary),
        harm_evidence=found.harm_e,
        harm_threshold=found.harm_threshold,
        fine_evidence=found.fine_e,
        fine_threshold=found.fine_threshold,
        excess=found.excess,
        excess_allowed=found.excess_allowed,
        slow_over_s=found.slow_over_s or 0.0,
        action=found.action,
        says=found.says,
        unknown=found.unknown,
    )


def _rate(count: Count) -> pb.RateFigures:
    if not count.rows:
        return pb.RateFigures(high=1.0)
    low, high = lower_bound(count, _ALPHA / 2), upper_bound(count, _ALPHA / 2)
    return pb.RateFigures(unit_count=count.rows, bad_count=count.bad, low=low, high=high)


def _arm(name: str, read_out: ReadOut) -> pb.ExperimentArm:
    figures, lift = read_out.arms[name], read_out.lifts.get(name)
    arm = pb.ExperimentArm(
        arm=name,
        exposed_key_count=figures.exposures,
        outcome_key_count=figures.outcomes,
        mean=figures.mean,
    )
    if lift is not None:
        arm.difference.CopyFrom(_interval(lift.absolute))
        arm.relative.CopyFrom(_interval(lift.relative))
    return arm


def _interval(found: Difference) -> pb.Interval:
    return pb.Interval(value=found.value, low=found.low, high=found.high)


def _outcome(message: pb.Outcome, now: float) -> Outcome:
    label = message.WhichOneof("value") == "label"
    time = message.time.seconds + message.time.nanos / 1e9 if message.HasField("time") else now
    value = float(message.label) if label else message.number
    return Outcome(message.request_id, message.row, message.name, value, label, time)
