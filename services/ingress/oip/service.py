"""inference.GRPCInferenceService: the Open Inference Protocol with Triton's extensions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from headrace.columns import Batch
from headrace.hop.errors import Fault
from headrace.hop.process.telemetry import build_version
from headrace.oip import open_inference_pb2 as pb
from services.ingress.admission.quotas import charge
from services.ingress.documents.catalog import Catalog, Entry
from services.ingress.idempotency.calls import IdempotentCalls
from services.ingress.inference import InferenceRunner
from services.ingress.oip import metadata as describing
from services.ingress.oip.parameters import parameters, read_version, wanted_outputs
from services.ingress.oip.request import read_columns
from services.ingress.oip.response import write
from services.ingress.reporting.reporter import Statistics
from services.ingress.request_context import RequestContext

StreamedInfer = Callable[[pb.ModelInferRequest], Awaitable[pb.ModelInferResponse]]


class OpenInference:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault.

    The Repository* RPCs are in `repository.py`.
    """

    def __init__(
        self,
        catalog: Catalog,
        runner: InferenceRunner,
        statistics: Statistics,
        ready: Callable[[], Awaitable[bool]],
        keyed: IdempotentCalls,
    ) -> None:
        self._catalog = catalog
        self._runner = runner
        self._statistics = statistics
        self._ready = ready
        self._keyed = keyed

    async def ServerLive(self, _: pb.ServerLiveRequest, __: RequestContext) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _: pb.ServerReadyRequest, __: RequestContext) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=await self._ready())

    async def ServerMetadata(
        self, _: pb.ServerMetadataRequest, __: RequestContext
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name="headrace", version=build_version(), extensions=describing.EXTENSIONS
        )

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: RequestContext
    ) -> pb.ModelReadyResponse:
        self._entry(request.name, request.version, context, "read")
        return pb.ModelReadyResponse(ready=await self._ready())

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: RequestContext
    ) -> pb.ModelMetadataResponse:
        return describing.metadata(self._entry(request.name, request.version, context, "read"))

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: RequestContext
    ) -> pb.ModelConfigResponse:
        entry = self._entry(request.name, request.version, context, "read")
        limit = self._runner.max_rows(context.caller)
        return pb.ModelConfigResponse(config=describing.configuration(entry, limit))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: RequestContext
    ) -> pb.ModelStatisticsResponse:
        if request.name:
            entries = [self._entry(request.name, request.version, context, "read")]
        else:
            entries = self._catalog.visible(context.caller, "read")
        stats = [describing.statistics(e, self._statistics.of(e.pipeline.name)) for e in entries]
        return pb.ModelStatisticsResponse(model_stats=stats)

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: RequestContext
    ) -> pb.ModelInferResponse:
        context.identify(request.id)
        credential = context.caller
        version = read_version(request.model_version)
        entry = self._catalog.find(request.model_name, version, credential, "predict")
        context.pipeline = request.model_name
        names = wanted_outputs(request, entry)
        max_rows = self._runner.max_rows(credential)
        charge(_claimed_rows(request, max_rows), context, request)
        if context.idempotency_key is None:
            return await self.answer(request, context, entry, names, version)
        run = partial(self.answer, request, context, entry, names, version)
        return await self._keyed.once(context, request, entry.deadline_s, pb.ModelInferResponse, run)

    async def answer(
        self,
        request: pb.ModelInferRequest,
        context: RequestContext,
        entry: Entry,
        names: list[str],
        version: int,
    ) -> pb.ModelInferResponse:
        """Runs a request that is allowed and paid for."""
        credential = context.caller
        columns, count = read_columns(request, entry, self._runner.max_rows(credential))
        priority, timeout_s = parameters(request)
        rows = self._runner.rows(context, entry, credential, count, priority, timeout_s)
        answer = await self._runner.infer(context, entry, Batch(rows, columns), version, whole=True)
        return write(answer, names, context.reply_id)

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], infer: StreamedInfer
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """One answer per request, in order. `infer` makes a separate context for each (logged, counted, limited)."""
        async for request in requests:
            try:
                reply = await infer(request)
            except Fault as fault:
                failed = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
                yield pb.ModelStreamInferResponse(error_message=fault.message, infer_response=failed)
                continue
            if _wants_final_flag(request):
                reply.parameters["triton_final_response"].bool_param = True
            yield pb.ModelStreamInferResponse(infer_response=reply)

    def _entry(self, name: str, version: str, context: RequestContext, scope: str) -> Entry:
        entry = self._catalog.find(name, read_version(version), context.caller, scope)
        context.pipeline = name
        return entry


def _claimed_rows(request: pb.ModelInferRequest, max_rows: int) -> int:
    """The number of rows according to the first input; 1 if the request will be refused because of its inputs."""
    shape = request.inputs[0].shape if request.inputs else ()
    return shape[0] if shape and 0 < shape[0] <= max_rows else 1


def _wants_final_flag(request: pb.ModelInferRequest) -> bool:
    flag = "triton_enable_empty_final_response"
    return flag in request.parameters and request.parameters[flag].bool_param
