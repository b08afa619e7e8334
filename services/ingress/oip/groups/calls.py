"""ModelInfer: requests of a known form leave in groups; the others are served one by one."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message

from headrace.hop.client.dial import CoalescedMethod
from headrace.hop.errors import Fault, Reason
from headrace.oip import open_inference_pb2 as pb
from services.ingress.admission.quotas import charge
from services.ingress.documents.catalog import Catalog
from services.ingress.inference import MIN_BUDGET_S, InferenceRunner, InferenceShare
from services.ingress.oip.groups.codec import GroupReply
from services.ingress.oip.groups.form import FormedRequest, Forms
from services.ingress.oip.service import OpenInference
from services.ingress.protocols.arrivals import Arrivals
from services.ingress.protocols.body.codecs import Codec
from services.ingress.request_context import RequestContext

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"


class GroupedInfer:
    """`submit`: answers a request of a known form together with others, also with `arrivals`. `clock`: monotonic seconds."""

    def __init__(
        self,
        oip: OpenInference,
        catalog: Catalog,
        runner: InferenceRunner,
        submit: CoalescedMethod[FormedRequest, GroupReply],
        arrivals: Arrivals,
        clock: Callable[[], float],
    ) -> None:
        self.arrivals = arrivals
        self._oip = oip
        self._catalog = catalog
        self._runner = runner
        self._submit = submit
        self._clock = clock
        self._forms = Forms(catalog, clock)

    async def read(self, message: bytes, codec: Codec, context: RequestContext) -> Message | FormedRequest:
        """Reads a message in the binary format. Raises Fault INVALID_ARGUMENT."""
        found = self._forms.find(message, context.tenant)
        if found is not None:
            return found
        request = await codec.read(message, pb.ModelInferRequest)
        assert isinstance(request, pb.ModelInferRequest)
        if request.raw_input_contents:
            self._forms.learn(message, request, context.tenant)
        return request

    async def __call__(
        self, request: pb.ModelInferRequest | FormedRequest, context: RequestContext
    ) -> pb.ModelInferResponse | bytes:
        """The handler of ModelInfer: a response, or its bytes. Raises Fault."""
        if not isinstance(request, FormedRequest):
            return await self._oip.ModelInfer(request, context)
        form, rows, credential = request.form, request.form.rows, context.caller
        tenant = credential.tenant
        if request.id:
            context.identify(request.id)
        name = form.entry.pipeline.name
        entry = self._catalog.find(name, form.version, credential, "predict")
        if (
            entry is not form.entry
            or tenant.limits.distinct_queries_per_day is not None
            or rows > self._runner.max_rows(credential)
        ):
            return await self._oip.ModelInfer(request.parsed(), context)
        context.pipeline = name
        charge(rows, context)
        deadline, priority = self._runner.allow(context, entry, tenant, form.priority, form.timeout_s)
        now = request.sent = self._clock()
        if deadline - now < MIN_BUDGET_S:
            return await self._alone(request, context)
        lane = request.lane = form.lanes[tenant.regulated]
        request.context = context
        request.description = lane, tenant.name, rows, context.size_bytes, deadline, priority
        request.row = context.request_id, tenant.name, priority, deadline, context.trace.forwarded
        try:
            answer, context.result = await self._submit(request)
        except Fault as fault:
            if request.fault is not None:
                raise request.fault from None
            if form.version or fault.reason != Reason.REASON_VERSION_UNKNOWN:
                raise
            # The router was restarted in between and has the newer version only.
            return await self._alone(request, context)
        if isinstance(answer, Fault):
            if isinstance(context.result, InferenceShare):
                context.result = context.result.result()
            raise answer
        self.arrivals.answered(self._clock())
        return answer

    async def _alone(self, request: FormedRequest, context: RequestContext) -> pb.ModelInferResponse:
        """Serves a request that is charged already in the usual way."""
        form = request.form
        return await self._oip.answer(request.parsed(), context, form.entry, form.outputs, form.version)
