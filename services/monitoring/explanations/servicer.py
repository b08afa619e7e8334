"""ExplanationsService: messages → domain → messages."""

from __future__ import annotations

import json

from google.protobuf.timestamp_pb2 import Timestamp

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from headrace.columns import encode_into
from headrace.hop.call import Call
from services.monitoring import errors
from services.monitoring.explanations import bias
from services.monitoring.explanations.explanations import Explanations
from services.monitoring.explanations.from_events import NoGroupsError, Wanted
from services.monitoring.explanations.records import ShownExplanation
from services.monitoring.explanations.unexplained import Demand
from services.monitoring.outcomes.records import StorageError

_ID_BYTES = 16
_MOST_DEMANDS = 100


class ExplanationsServicer:
    """Serves headrace.api.monitoring.v1.ExplanationsService."""

    def __init__(self, explanations: Explanations) -> None:
        self._explanations = explanations

    async def GetExplanation(
        self, request: pb.GetExplanationRequest, call: Call
    ) -> pb.GetExplanationResponse:
        errors.check_trusted(call)
        try:
            identity = bytes.fromhex(request.prediction_id)
        except ValueError:
            identity = b""
        if len(identity) != _ID_BYTES:
            raise errors.unreadable("prediction_id has 32 hexadecimal digits")
        try:
            found = await self._explanations.of(identity)
        except (StorageError, OSError) as error:
            raise errors.explanations_unavailable(str(error)) from None
        if found is None:
            raise errors.explanation_unknown(request.prediction_id)
        return pb.GetExplanationResponse(
            explanation=_written(found),
            values_json=[json.dumps(c.value) for c in found.columns],
            stored_time=Timestamp(seconds=int(found.stored)),
        )

    async def GetBiasSlices(self, request: pb.GetBiasSlicesRequest, call: Call) -> pb.GetBiasSlicesResponse:
        errors.check_trusted(call)
        if not request.pipeline or not request.column:
            raise errors.unreadable("pipeline and column must be named")
        first_us = request.begin_time.ToMicroseconds() if request.HasField("begin_time") else 0
        wanted = Wanted(request.pipeline, request.column, request.output, first_us)
        try:
            found, predictions, output = await self._explanations.slices(
                wanted, request.least_group or bias.LEAST_GROUP
            )
        except NoGroupsError as error:
            raise errors.no_groups(request.column, error.cause, error.known) from None
        except (StorageError, OSError) as error:
            raise errors.explanations_unavailable(str(error)) from None
        if not len(predictions):
            raise errors.no_predictions(request.pipeline)
        reply = pb.GetBiasSlicesResponse(
            output=output, prediction_count=len(predictions), truncated=predictions.truncated
        )
        for each in found:
            reply.slices.add(
                group=each.group,
                group_count=each.groups,
                output=_mean(each.output),
                wrong=_mean(each.wrong),
                contribution=_mean(each.contribution),
            )
        return reply

    async def GetExplanationCoverage(
        self,
        request: pb.GetExplanationCoverageRequest,  # noqa: ARG002 - no fields
        call: Call,
    ) -> pb.GetExplanationCoverageResponse:
        errors.check_trusted(call)
        try:
            found = await self._explanations.coverage()
        except StorageError as error:
            raise errors.explanations_unavailable(str(error)) from None
        reply = pb.GetExplanationCoverageResponse()
        for each in found:
            reply.pipelines.add(
                pipeline=each.pipeline,
                prediction_count=each.predictions,
                explained_count=each.explained,
            )
        return reply

    async def NextPredictions(
        self, request: pb.NextPredictionsRequest, call: Call
    ) -> pb.NextPredictionsResponse:
        errors.check_trusted(call)
        demands = [_demand(message) for message in request.demands[:_MOST_DEMANDS]]
        try:
            found = await self._explanations.next(demands)
        except (StorageError, OSError) as error:
            raise errors.explanations_unavailable(str(error)) from None
        reply = pb.NextPredictionsResponse()
        for each in found:
            added = reply.predictions.add(
                pipeline=each.demand.pipeline, revision=each.demand.revision, prediction_ids=each.ids
            )
            encode_into(added.batch, each.batch, 0.0)
        return reply


def _demand(message: pb.ExplanationDemand) -> Demand:
    if not message.pipeline or not message.columns or not 0 < message.coverage <= 1:
        raise errors.unreadable("a demand has a pipeline, columns and a coverage above 0, at most 1")
    return Demand(message.pipeline, message.revision, message.coverage, tuple(message.columns))


def _written(found: ShownExplanation) -> pb.Explanation:
    one, columns = found.explanation, found.columns
    return pb.Explanation(
        prediction_id=one.prediction_id,
        tenant=one.tenant,
        pipeline=one.pipeline,
        revision=one.revision,
        arm=one.arm,
        output=one.output,
        base=one.base,
        value=one.value,
        exact=one.exact,
        columns=[c.column for c in columns],
        contributions=[c.contribution for c in columns],
        standard_errors=[c.standard_error for c in columns],
        base_sources=[c.base_source for c in columns],
    )


def _mean(found: bias.Mean) -> pb.BiasMean:
    message = pb.BiasMean(prediction_count=found.count, low=found.low, high=found.high)
    if found.value is not None:
        message.mean = found.value
    return message
