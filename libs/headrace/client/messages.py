"""Replies as the SDK's own types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headrace.api.batch.v1 import batch_pb2
from headrace.api.errors.v1 import errors_pb2
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.client.results import (
    Decision,
    FeatureAge,
    Field,
    ModelUse,
    Outcome,
    Pipeline,
    Prediction,
    PredictResult,
    RowFailure,
)
from headrace.client.values import from_struct
from headrace.hop.errors import Code


def predict_result(reply: pb.PredictResponse) -> PredictResult:
    """The answer to rows."""
    arms = decisions(reply)
    return PredictResult(
        request_id=reply.request_id,
        pipeline=reply.pipeline,
        version=reply.version,
        revision=reply.revision,
        models=model_uses(reply.models),
        predictions=tuple(_prediction(p, arms) for p in reply.predictions),
        trace_id=reply.trace_id,
        decisions=arms,
    )


def decisions(reply: pb.PredictResponse) -> tuple[Decision, ...]:
    """The arms that answered."""
    return tuple(
        Decision(d.arm, d.version, d.revision, d.release, d.rule, d.sticky, model_uses(d.models))
        for d in reply.decisions
    )


def model_uses(models: Iterable[pb.ModelUse]) -> tuple[ModelUse, ...]:
    """The models that were used."""
    return tuple(
        ModelUse(m.model, m.version, m.sha256, m.stage, m.backend, m.standby, m.cold_start) for m in models
    )


def row_failure(error: pb.PredictionError | batch_pb2.RowError) -> RowFailure:
    """Why a row failed; tolerant of codes and reasons that are newer than this SDK."""
    code = Code(error.code) if 0 < error.code <= max(Code) else Code.UNKNOWN
    return RowFailure(code, _reason(error.reason), error.message, dict(error.metadata))


def outcomes_request(outcomes: Iterable[Outcome]) -> pb.RecordOutcomesRequest:
    """The message of outcomes. Raises ValueError for a time without a zone, TypeError for a value of another type."""
    request = pb.RecordOutcomesRequest()
    for outcome in outcomes:
        added = request.outcomes.add(request_id=outcome.request_id, row=outcome.row, name=outcome.name)
        if isinstance(outcome.value, bool):
            added.label = outcome.value
        else:
            added.number = outcome.value
        if outcome.time is not None:
            if outcome.time.tzinfo is None:
                raise ValueError(f"the time {outcome.time} needs a time zone")
            added.time.FromDatetime(outcome.time)
    return request


def pipeline(message: pb.Pipeline) -> Pipeline:
    """A pipeline with its inputs and outputs."""
    return Pipeline(
        name=message.name,
        version=message.version,
        revision=message.revision,
        description=message.description,
        inputs=tuple(_field(f) for f in message.inputs),
        outputs=tuple(_field(f) for f in message.outputs),
    )


def _prediction(message: pb.Prediction, arms: Sequence[Decision]) -> Prediction:
    return Prediction(
        outputs=from_struct(message.outputs),
        fallbacks=tuple(message.fallbacks),
        feature_ages=_ages(message.features),
        error=row_failure(message.error) if message.HasField("error") else None,
        decision=arms[message.decision] if message.decision < len(arms) else None,
        cached_age_ms=message.cached_age_ms if message.HasField("cached_age_ms") else None,
    )


def _ages(features: Mapping[str, pb.FeatureAge]) -> dict[str, FeatureAge]:
    return {
        view: FeatureAge(age.source, age.age_ms if age.HasField("age_ms") else None)
        for view, age in features.items()
    }


def _field(message: pb.Field) -> Field:
    kind = batch_pb2.DataType.Name(message.data_type).removeprefix("DATA_TYPE_")
    return Field(message.name, kind, tuple(message.row_shape), message.optional, message.description)


def _reason(number: int) -> str:
    try:
        return errors_pb2.Reason.Name(number).removeprefix("REASON_")
    except ValueError:
        return f"REASON_{number}"
