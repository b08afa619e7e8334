"""headrace.api.inference.v1.InferenceService: rows as objects or as columns; each row has its own answer."""

from __future__ import annotations

import asyncio
import math
from functools import partial

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import Batch, DType, concat, decode_columns
from headrace.pipeline import InputField, OutputField, batch_from_rows
from services.ingress.admission.quotas import charge
from services.ingress.documents.catalog import Catalog, Credential, Entry
from services.ingress.faults import malformed
from services.ingress.idempotency.calls import IdempotentCalls
from services.ingress.inference import InferenceResult, InferenceRunner, check_rows
from services.ingress.predict.response import write_columns, write_models, write_rows
from services.ingress.predict.structs import to_python
from services.ingress.request_context import RequestContext

# Rows are read and written so many at a time, which takes some milliseconds; in between, other requests get their turn.
_ROWS_AT_ONCE = 128


class InferenceServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault."""

    def __init__(self, catalog: Catalog, runner: InferenceRunner, keyed: IdempotentCalls) -> None:
        self._catalog = catalog
        self._runner = runner
        self._keyed = keyed

    async def Predict(self, request: pb.PredictRequest, context: RequestContext) -> pb.PredictResponse:
        context.identify(request.request_id)
        credential = context.caller
        entry = self._catalog.find(request.pipeline, request.version, credential, "predict")
        context.pipeline = request.pipeline
        count = self._charge(request, context, credential)
        if context.idempotency_key is None:
            return await self._answer(request, context, entry, count)
        run = partial(self._answer, request, context, entry, count)
        return await self._keyed.once(context, request, entry.deadline_s, pb.PredictResponse, run)

    async def _answer(
        self, request: pb.PredictRequest, context: RequestContext, entry: Entry, count: int
    ) -> pb.PredictResponse:
        """Runs a request of `count` rows that is allowed and paid for."""
        batch = await self._batch(request, context, entry, count)
        answer = await self._runner.infer(context, entry, batch, request.version, whole=False)
        reply = pb.PredictResponse(
            request_id=context.reply_id,
            pipeline=request.pipeline,
            version=answer.version,
            revision=answer.revision,
            trace_id=context.trace.trace_id,
        )
        write_models(answer, reply)
        if request.rows:
            await _write_rows(answer, reply)
        else:
            write_columns(answer, reply)
        return reply

    async def ListPipelines(
        self, _: pb.ListPipelinesRequest, context: RequestContext
    ) -> pb.ListPipelinesResponse:
        entries = self._catalog.visible(context.caller, "read")
        return pb.ListPipelinesResponse(pipelines=[_described(e) for e in entries])

    def rows_to_explain(self, request: pb.ExplainRequest, context: RequestContext, cost: int) -> Batch:
        """The rows of a request that is allowed and paid for, each as `cost` rows. Raises Fault."""
        credential = context.caller
        entry = self._catalog.find(request.pipeline, 0, credential, "predict")
        context.pipeline = request.pipeline
        count = len(request.rows)
        check_rows(count, self._runner.max_rows(credential))
        charge(count * cost, context, request)
        rows = self._runner.rows(context, entry, credential, count, 1, math.inf)
        batch = batch_from_rows(entry.pipeline, [to_python(row) for row in request.rows], rows)
        return self._runner.checked(context, entry, batch)

    def _charge(self, request: pb.PredictRequest, context: RequestContext, credential: Credential) -> int:
        """Charges the request's rows and bytes; returns the number of rows."""
        if bool(request.rows) == bool(request.columns):
            what = "both" if request.rows else "neither"
            raise malformed(f"a request brings `rows` or `columns`; this one has {what}", "rows")
        count = len(request.rows) or request.row_count
        check_rows(count, self._runner.max_rows(credential))
        charge(count, context, request)
        return count

    async def _batch(
        self, request: pb.PredictRequest, context: RequestContext, entry: Entry, count: int
    ) -> Batch:
        priority = min(request.priority, 10)
        rows = self._runner.rows(context, entry, context.caller, count, priority, math.inf)
        if not request.rows:
            return Batch(rows, decode_columns(request.columns, count))
        if count <= _ROWS_AT_ONCE:
            return batch_from_rows(entry.pipeline, [to_python(row) for row in request.rows], rows)
        parts = []
        for start in range(0, count, _ROWS_AT_ONCE):
            stop = start + _ROWS_AT_ONCE
            found = [to_python(row) for row in request.rows[start:stop]]
            parts.append(batch_from_rows(entry.pipeline, found, rows.slice(start, stop), start))
            await asyncio.sleep(0)
        return concat(parts)


async def _write_rows(answer: InferenceResult, reply: pb.PredictResponse) -> None:
    count = len(answer.batch)
    if count <= _ROWS_AT_ONCE:
        write_rows(answer, reply)
        return
    for start in range(0, count, _ROWS_AT_ONCE):
        write_rows(answer.slice(start, start + _ROWS_AT_ONCE), reply)
        await asyncio.sleep(0)


def _described(entry: Entry) -> pb.Pipeline:
    pipeline = entry.pipeline
    return pb.Pipeline(
        name=pipeline.name,
        version=pipeline.version,
        revision=pipeline.revision,
        description=pipeline.description,
        inputs=[_field(f, optional=not f.required, description=f.description) for f in pipeline.inputs],
        outputs=[_field(f, optional=False, description="") for f in pipeline.outputs],
    )


def _field(field: InputField | OutputField, *, optional: bool, description: str) -> pb.Field:
    return pb.Field(
        name=field.name,
        data_type=int(DType(field.dtype)),  # type: ignore[arg-type]  # same numbers
        row_shape=field.row_shape,
        optional=optional,
        description=description,
    )
