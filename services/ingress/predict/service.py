"""headrace.api.inference.v1.InferenceService: rows as objects or as columns; each row has its own answer."""

from __future__ import annotations

import math

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import Batch, DType, decode_columns
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import InputField, OutputField, batch_from_rows
from services.ingress.documents.catalog import Catalog, Credential, Entry
from services.ingress.inference import InferenceRunner, check_rows
from services.ingress.oip.service import charge, proven
from services.ingress.predict.response import write_columns, write_models, write_rows
from services.ingress.predict.structs import to_python
from services.ingress.request_context import RequestContext


class InferenceServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault."""

    def __init__(self, catalog: Catalog, runner: InferenceRunner) -> None:
        self._catalog = catalog
        self._runner = runner

    async def Predict(self, request: pb.PredictRequest, context: RequestContext) -> pb.PredictResponse:
        context.identify(request.request_id)
        credential = proven(context)
        entry = self._catalog.find(request.pipeline, request.version, credential, "predict")
        context.pipeline = request.pipeline
        batch = self._batch(request, context, entry, credential)
        answer = await self._runner.infer(context, entry, batch, request.version, whole=False)
        reply = pb.PredictResponse(
            request_id=context.request_id,
            pipeline=request.pipeline,
            version=answer.version,
            revision=answer.revision,
            trace_id=context.trace.trace_id,
        )
        write_models(answer, reply)
        (write_rows if request.rows else write_columns)(answer, reply)
        return reply

    async def ListPipelines(
        self, _: pb.ListPipelinesRequest, context: RequestContext
    ) -> pb.ListPipelinesResponse:
        entries = self._catalog.visible(proven(context), "read")
        return pb.ListPipelinesResponse(pipelines=[_described(e) for e in entries])

    def _batch(
        self,
        request: pb.PredictRequest,
        context: RequestContext,
        entry: Entry,
        credential: Credential,
    ) -> Batch:
        if bool(request.rows) == bool(request.columns):
            what = "both" if request.rows else "neither"
            raise Fault(
                Code.INVALID_ARGUMENT,
                Reason.REASON_MALFORMED_REQUEST,
                f"a request brings `rows` or `columns`; this one has {what}",
                metadata={"field": "rows"},
            )
        count = len(request.rows) or request.row_count
        check_rows(count, self._runner.max_rows(credential))
        charge(count, request, context)
        rows = self._runner.rows(context, entry, credential, count, min(request.priority, 10), math.inf)
        if request.rows:
            return batch_from_rows(entry.pipeline, [to_python(row) for row in request.rows], rows)
        return Batch(rows, decode_columns(request.columns, count))


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
