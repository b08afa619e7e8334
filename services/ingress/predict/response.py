"""Answers → PredictResponse: one Prediction per row, or columns with row errors."""

from __future__ import annotations

import numpy as np

from headrace.api.batch.v1 import batch_pb2
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import ANNOTATION, Batch, Column, RowError, encode_columns
from headrace.pipeline import rows_from_batch, write_model_uses
from services.ingress.inference import InferenceResult
from services.ingress.oip.response import CACHED, source_name
from services.ingress.predict.structs import fill

_SOURCE, _AGE = "@source/", "@age_us/"
_DECISION = "@decision"


def write_models(answer: InferenceResult, reply: pb.PredictResponse) -> None:
    """Adds the models that were used, and the arms that rows took."""
    write_model_uses(answer.models, reply.models)
    for decision in answer.decisions:
        added = reply.decisions.add(
            arm=decision.route,
            version=decision.version,
            revision=decision.revision,
            release=decision.release,
            rule=decision.rule,
            sticky=decision.sticky,
        )
        write_model_uses(decision.models, added.models)


def write_rows(answer: InferenceResult, reply: pb.PredictResponse) -> None:
    """Adds a Prediction for each row: outputs, fallbacks and the ages of its features, or its error."""
    batch = answer.batch
    predictions = [reply.predictions.add() for _ in range(len(batch))]
    for row, values in enumerate(rows_from_batch(answer.entry.pipeline, batch)):
        if row in batch.errors:
            _error(predictions[row].error, batch.errors[row])
        else:
            fill(predictions[row].outputs, values)
    for prediction, decision in zip(predictions, answer.decided or (), strict=False):
        prediction.decision = decision
    _ages(batch, predictions)
    _cached(batch, predictions)
    _fallbacks(answer, predictions)


def _error(target: pb.PredictionError, error: RowError) -> None:
    target.code, target.reason, target.message = int(error.code), error.reason, error.message
    target.metadata.update(error.metadata)


def _ages(batch: Batch, predictions: list[pb.Prediction]) -> None:
    for name, column in batch.columns.items():
        if not name.startswith(_SOURCE):
            continue
        view = name.removeprefix(_SOURCE)
        ages = batch.columns.get(_AGE + view)
        known = [-1] * len(predictions) if ages is None else ages.array.tolist()
        for prediction, source, age in zip(predictions, column.array.tolist(), known, strict=True):
            if not source:
                continue
            feature = prediction.features[view]
            feature.source = source_name(source)
            if age >= 0:
                feature.age_ms = age // 1000


def _cached(batch: Batch, predictions: list[pb.Prediction]) -> None:
    """How old the kept answers are that rows got."""
    ages = batch.columns.get(CACHED)
    if ages is None:
        return
    for prediction, age in zip(predictions, ages.array.tolist(), strict=True):
        if age >= 0:
            prediction.cached_age_ms = age // 1000


def _fallbacks(answer: InferenceResult, predictions: list[pb.Prediction]) -> None:
    used = answer.batch.columns.get("@fallbacks")
    if used is None or not answer.fallbacks:
        return
    for prediction, bits in zip(predictions, used.array.tolist(), strict=True):
        if bits:
            prediction.fallbacks.extend(name for name, bit in answer.fallbacks if bits >> bit & 1)


def write_columns(answer: InferenceResult, reply: pb.PredictResponse) -> None:
    """Adds the outputs and annotations as columns, and the errors of rows."""
    batch = answer.batch
    names = answer.entry.outputs
    told = [
        c for n, c in batch.columns.items() if n in names or (n.startswith(ANNOTATION) and n != _DECISION)
    ]
    if answer.decided:
        # Not the router's own column: that counts the decisions of all requests that shared its message.
        told.append(Column.of(_DECISION, np.array(answer.decided, np.uint32)))
    reply.columns.extend(encode_columns(told))
    for row, e in batch.errors.items():
        reply.errors.append(
            batch_pb2.RowError(
                row=row,
                code=int(e.code),
                reason=e.reason,
                message=e.message,
                stage=e.stage,
                metadata=dict(e.metadata),
            )
        )
