"""InferenceService.Explain: what each column added to an output of some rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.ports import Explanations
from services.ingress.predict.service import InferenceServicer
from services.ingress.request_context import RequestContext

MOST_ROWS = 8
# An explanation runs hundreds of rows or more, though below every prediction.
COST_ROWS = 100
# For callers without a deadline.
_TIMEOUT_S = 30.0


class ExplainServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault. `clock`: monotonic seconds."""

    def __init__(
        self, predictions: InferenceServicer, explanations: Explanations, clock: Callable[[], float]
    ) -> None:
        self._predictions = predictions
        self._explanations = explanations
        self._clock = clock

    async def Explain(self, request: pb.ExplainRequest, context: RequestContext) -> pb.ExplainResponse:
        context.identify(request.request_id)
        if len(request.rows) > MOST_ROWS:
            raise Fault(
                Code.INVALID_ARGUMENT,
                Reason.REASON_TOO_LARGE,
                f"{len(request.rows)} rows are to be explained at once; at most {MOST_ROWS} can be",
                metadata={"rows": str(len(request.rows)), "limit": str(MOST_ROWS)},
            )
        batch = self._predictions.rows_to_explain(request, context, COST_ROWS)
        deadline = self._clock() + _TIMEOUT_S if context.deadline == math.inf else context.deadline
        # An explanation runs the pipeline many times, so its rows have the time of the call and not of one prediction.
        batch = replace(batch, rows=replace(batch.rows, deadlines=[deadline] * len(batch)))
        found = await self._explanations.explain(request.pipeline, request.output, batch, deadline)
        reply = pb.ExplainResponse(request_id=context.reply_id, pipeline=request.pipeline)
        for one in found:
            # Without the values of feature columns, which a prediction does not show either.
            reply.rows.add(
                output=one.output,
                base=one.base,
                value=one.value,
                exact=one.exact,
                revision=one.revision,
                contributions=[
                    pb.ColumnContribution(column=column, contribution=added, standard_error=error)
                    for column, added, error in one.contributions
                ],
            )
        return reply
