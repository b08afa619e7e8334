"""InferenceService.Explain: what each column added to an output of some rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.api.router.v1 import explain_pb2, router_pb2
from headrace.columns import encode
from headrace.hop.call import unary
from headrace.hop.client.dial import UnaryCall
from headrace.hop.errors import Reason
from services.ingress.faults import invalid
from services.ingress.predict.service import InferenceServicer
from services.ingress.request_context import RequestContext

# How long it takes depends on what is asked; the router shares its time among tenants.
EXPLAIN = unary(
    explain_pb2.ExplainRequest,
    explain_pb2.ExplainResponse,
    idempotent=True,
    lengthy=True,
    file=router_pb2.DESCRIPTOR,
)
MOST_ROWS = 8
# An explanation runs hundreds of rows or more, though below every prediction.
COST_ROWS = 100
# For callers without a deadline.
_TIMEOUT_S = 30.0


class ExplainServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault. `explain`: of the router; `clock`:
    monotonic seconds."""

    def __init__(
        self,
        predictions: InferenceServicer,
        explain: UnaryCall[explain_pb2.ExplainRequest, explain_pb2.ExplainResponse],
        clock: Callable[[], float],
    ) -> None:
        self._predictions = predictions
        self._explain = explain
        self._clock = clock

    async def Explain(self, request: pb.ExplainRequest, context: RequestContext) -> pb.ExplainResponse:
        context.identify(request.request_id)
        count = len(request.rows)
        if count > MOST_ROWS:
            said = f"{count} rows are to be explained at once; at most {MOST_ROWS} can be"
            raise invalid(Reason.REASON_TOO_LARGE, said, rows=str(count), limit=str(MOST_ROWS))
        batch = self._predictions.rows_to_explain(request, context, COST_ROWS)
        deadline = context.deadline_within(_TIMEOUT_S)
        # An explanation runs the pipeline many times, so its rows have the time of the call and not of one prediction.
        batch = replace(batch, rows=replace(batch.rows, deadlines=[deadline] * len(batch)))
        asked = explain_pb2.ExplainRequest(
            pipeline=request.pipeline, output=request.output, batch=encode(batch, self._clock())
        )
        reply = pb.ExplainResponse(request_id=context.reply_id, pipeline=request.pipeline)
        for one in (await self._explain(asked, deadline=deadline)).rows:
            added = reply.rows.add(
                output=one.output, base=one.base, value=one.value, exact=one.exact, revision=one.revision
            )
            for c in one.contributions:
                # Without the values of feature columns, which a prediction does not show either.
                added.contributions.add(
                    column=c.column, contribution=c.contribution, standard_error=c.standard_error
                )
        return reply
