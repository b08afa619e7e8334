"""A real InferenceService for the SDK's tests, on hop's server."""

import asyncio
from dataclasses import dataclass, field

from headrace.api.batch.v1 import batch_pb2
from headrace.api.errors.v1 import errors_pb2
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.hop.call import Call
from headrace.hop.config import ServiceSettings
from headrace.hop.definition import Definition, Service
from headrace.hop.errors import Code, Fault, Reason
from tests.definitions import definition_of

INFERENCE = pb.DESCRIPTOR.services_by_name["InferenceService"]


@dataclass
class Inference:
    """Doubles `x`; `script`: what the next calls do instead (a Fault is raised, a float is slept)."""

    script: list[Fault | float] = field(default_factory=list)
    seen: list[pb.PredictRequest] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    idempotency_keys: list[str | None] = field(default_factory=list)
    lists: int = 0
    # Those of each call of RecordOutcomes. The prediction of a true label is said to be unknown.
    outcomes: list[list[pb.Outcome]] = field(default_factory=list)

    async def Predict(self, request: pb.PredictRequest, call: Call) -> pb.PredictResponse:
        self.seen.append(request)
        self.keys.append(call.metadata.get("authorization", ""))
        self.traces.append(call.metadata.get("traceparent", ""))
        self.idempotency_keys.append(call.metadata.get("idempotency-key"))
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Fault):
            raise step
        if step is not None:
            await asyncio.sleep(step)
        return self._answer(request)

    async def Explain(self, request: pb.ExplainRequest, call: Call) -> pb.ExplainResponse:
        raise Fault(Code.UNIMPLEMENTED, Reason.REASON_METHOD_UNKNOWN, "the SDK has no call of it")

    async def ListPipelines(self, request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:
        self.lists += 1
        x = pb.Field(name="x", data_type=batch_pb2.DATA_TYPE_FLOAT32, description="a number")
        c = pb.Field(name="carrier", data_type=batch_pb2.DATA_TYPE_BYTES, optional=True)
        y = pb.Field(name="y", data_type=batch_pb2.DATA_TYPE_FLOAT32, row_shape=[2])
        one = pb.Pipeline(
            name="flights", version=3, revision="abc", description="late?", inputs=[x, c], outputs=[y]
        )
        return pb.ListPipelinesResponse(pipelines=[one])

    async def RecordOutcomes(
        self, request: pb.RecordOutcomesRequest, call: Call
    ) -> pb.RecordOutcomesResponse:
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Fault):
            raise step
        self.outcomes.append(list(request.outcomes))
        unknown = sum(outcome.label for outcome in request.outcomes)
        return pb.RecordOutcomesResponse(accepted_count=len(request.outcomes), unknown_count=unknown)

    def _answer(self, request: pb.PredictRequest) -> pb.PredictResponse:
        reply = pb.PredictResponse(
            request_id=request.request_id,
            pipeline=request.pipeline,
            version=request.version or 3,
            revision="abc",
            models=[pb.ModelUse(model="light", version="1", sha256="ff", stage="light")],
            trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        )
        for row in request.rows:
            prediction = reply.predictions.add()
            if row.fields["x"].number_value < 0:
                prediction.error.code = int(Code.INVALID_ARGUMENT)
                prediction.error.reason = errors_pb2.REASON_INPUT_RANGE
                prediction.error.message = "x is negative"
                prediction.error.metadata["input"] = "x"
                continue
            prediction.outputs.fields["y"].number_value = 2 * row.fields["x"].number_value
            prediction.outputs.fields["echo"].struct_value.CopyFrom(row)
            prediction.fallbacks.append("weather:default")
            prediction.features["planes"].source = "present"
            prediction.features["planes"].age_ms = 1500
            prediction.features["weather"].source = "not_found"
        reply.columns.extend(request.columns)
        if request.columns:
            reply.errors.add(
                row=1, code=int(Code.NOT_FOUND), reason=errors_pb2.REASON_FEATURE_UNAVAILABLE, message="none"
            )
        return reply


def definition(servicer: Inference) -> Definition[ServiceSettings]:
    """The service, ready to be served by hop.testing."""
    return definition_of("inference", Service(INFERENCE, servicer))


def unavailable(retry_after_s: float | None = None) -> Fault:
    return Fault(
        Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "away", metadata={"a": "b"}, retry_after_s=retry_after_s
    )


def exhausted(retry_after_s: float | None = None) -> Fault:
    return Fault(
        Code.RESOURCE_EXHAUSTED,
        Reason.REASON_QUOTA_EXCEEDED,
        "quota",
        metadata={"q": "1"},
        retry_after_s=retry_after_s,
    )
