"""The RPC Explain: messages → domain → messages."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from headrace.api.router.v1 import explain_pb2 as pb
from headrace.columns import Column, Ragged, wire
from headrace.hop.call import Call
from services.router.explanations.asked.json_rows import batch_of_json
from services.router.explanations.asked.on_request import OnRequest
from services.router.explanations.pieces import Explained

# A picture says nothing as text.
_LONGEST_TEXT = 200


class ExplainServicer:
    """Serves the RPC of `headrace.api.router.v1.RouterService`."""

    def __init__(self, on_request: OnRequest) -> None:
        self._on_request = on_request

    async def Explain(self, request: pb.ExplainRequest, call: Call) -> pb.ExplainResponse:
        if request.rows_json:
            types = self._on_request.types(request.pipeline, request.revision)
            batch = batch_of_json(request.rows_json, types, request.tenant, request.request_id, call.deadline)
        else:
            batch = wire.read_request(request, call, time.monotonic())
            # Doors of 8aae46a1 and before give rows the time of one prediction, which the first stages could use up.
            batch = replace(batch, rows=replace(batch.rows, deadlines=[call.deadline] * len(batch)))
        return _response(
            await self._on_request.explain(
                request.pipeline, request.revision, request.output, batch, request.seeds
            )
        )


def _response(explained: Sequence[Explained]) -> pb.ExplainResponse:
    """Values of personal data are left out: they may be shown to operators."""
    reply = pb.ExplainResponse()
    for one in explained:
        subject, found = one.subject, one.found
        private = {field.name for field in subject.pipeline.inputs if field.pii}
        row = reply.rows.add(
            output=subject.output,
            base=found.base,
            value=found.value,
            exact=found.exact,
            coalition_count=one.rows,
            revision=subject.pipeline.revision,
        )
        for i, name in enumerate(subject.players):
            row.contributions.add(
                column=name,
                contribution=float(found.values[i]),
                standard_error=float(found.errors[i]),
                base_source=subject.sources[i],
                base_json=as_json(subject.base.columns[name]) if name in subject.base.columns else "",
                value_json="" if name in private or subject.pixels else as_json(one.row.columns[name]),
            )
    return reply


def as_json(column: Column) -> str:
    """The value of a column of one row."""
    if not column.is_valid().all():
        return "null"
    if isinstance(column.values, Ragged):
        found: list[Any] = [text.decode(errors="replace") for text in column.values.to_list()]
    else:
        found = [_plain(value) for value in column.values.ravel().tolist()]
    text = json.dumps(found if column.row_shape else found[0], ensure_ascii=False)
    return text if len(text) <= _LONGEST_TEXT else json.dumps(f"{len(text)} characters")


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
