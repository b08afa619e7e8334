"""Groups: requests that wait at the same time for one lane are read, checked and answered as one batch of the router."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from headrace.columns import Batch, Column, Rows
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.columns.wire import Carrier
from headrace.hop.batching.codec import ItemDescription
from headrace.hop.errors import Fault
from headrace.pipeline import REGULATED, rounded, validate_inputs
from services.ingress.attributes import Attributes
from services.ingress.inference import InferenceResult, InferenceShare, first_fault
from services.ingress.oip.groups.form import FormedRequest, Lane
from services.ingress.oip.groups.replies import replies
from services.ingress.ports import Routed

Req = TypeVar("Req", bound=Carrier)
Resp = TypeVar("Resp", bound=Carrier)
# The message that answers a request, or why there is none; what is known of its rows, if they were sent.
GroupReply: TypeAlias = tuple[bytes | Fault, InferenceShare | None]


class GroupCodec(Generic[Req, Resp]):
    """hop's `BatchCodec` of FormedRequests. `codec`: of the calls to the router; `routed`: what its reply says."""

    def __init__(
        self,
        codec: ColumnCodec[tuple[str, int], Req, Resp],
        routed: Callable[[BatchReply[Resp]], Routed],
        attributes: Attributes | None,
        clock: Callable[[], float],
    ) -> None:
        self._codec = codec
        self._routed = routed
        self._attributes = attributes
        self._clock = clock

    def describe(self, item: FormedRequest) -> ItemDescription:
        return item.description

    def merge(self, items: Sequence[FormedRequest]) -> Req:
        return self._codec.merge([self._call(items)])

    def load(self, items: Sequence[FormedRequest]) -> tuple[Req, Batch]:
        return self._codec.load([self._call(items)])

    def split(self, items: Sequence[FormedRequest], response: Resp) -> list[GroupReply]:
        sent = _allowed(items)
        [reply] = self._codec.split([BatchCall(sent[0].lane.header, Batch(_rows(sent), {}))], response)
        return self._answered(items, sent, reply)

    def unload(self, items: Sequence[FormedRequest], response: Resp, returned: Batch) -> list[GroupReply]:
        sent = _allowed(items)
        [reply] = self._codec.unload(
            [BatchCall(sent[0].lane.header, Batch(_rows(sent), {}))], response, returned
        )
        return self._answered(items, sent, reply)

    def failed(self, results: Sequence[GroupReply]) -> float:
        whole = next(share.whole for _, share in results if share is not None)
        return self._codec.failed_share([whole.batch])

    def _call(self, items: Sequence[FormedRequest]) -> BatchCall[tuple[str, int]]:
        """The rows of the requests whose values are allowed. The others get their `fault`; it is raised if none is left."""
        lane = items[0].lane
        batch = validate_inputs(lane.entry.pipeline, _batch(lane, items))
        if batch.errors:
            items = _refuse(lane, items, batch)
            batch = validate_inputs(lane.entry.pipeline, _batch(lane, items))
        if self._attributes is not None:
            headers = [i.context.headers for i in items for _ in range(i.form.rows)]
            batch = batch.with_columns(self._attributes.columns(headers))
        if lane.regulated:
            batch = batch.with_columns([Column.of(REGULATED, np.ones(len(batch), bool))])
        return BatchCall(lane.header, batch)

    def _answered(
        self, items: Sequence[FormedRequest], sent: Sequence[FormedRequest], reply: BatchReply[Resp]
    ) -> list[GroupReply]:
        entry, routed, now = items[0].lane.entry, self._routed(reply), self._clock()
        batch = rounded(entry.pipeline, routed.batch) if entry.rounds else routed.batch
        whole = InferenceResult(entry, batch, routed.fallbacks, routed.decisions, 0.0, 0.0, routed.decided)
        shares, stop = [], 0
        for item in sent:
            start, stop = stop, stop + item.form.rows
            waited = item.sent - item.context.received
            shares.append(InferenceShare(whole, start, stop, waited, now - item.sent))
        answered: list[GroupReply] = list(zip(replies(whole, sent, shares), shares, strict=True))
        if len(sent) == len(items):
            return answered
        following = iter(answered)
        return [next(following) if i.fault is None else (i.fault, None) for i in items]


def _allowed(items: Sequence[FormedRequest]) -> Sequence[FormedRequest]:
    return items if all([i.fault is None for i in items]) else [i for i in items if i.fault is None]  # noqa: C419 - as below


def _refuse(lane: Lane, items: Sequence[FormedRequest], batch: Batch) -> Sequence[FormedRequest]:
    """Gives each request that has a row with an error its fault. Returns the others. Raises the first fault if there are none."""
    start = 0
    for item in items:
        stop = start + item.form.rows
        if any(row in batch.errors for row in range(start, stop)):
            # Alone, since errors name the row of the request.
            item.fault = first_fault(validate_inputs(lane.entry.pipeline, _batch(lane, [item])))
        start = stop
    allowed = _allowed(items)
    if not allowed and items[0].fault is not None:
        raise items[0].fault.copy()
    return allowed


def _batch(lane: Lane, items: Sequence[FormedRequest]) -> Batch:
    return Batch(_rows(items), lane.columns(items))


def _rows(items: Sequence[FormedRequest]) -> Rows:
    if any([i.form.rows > 1 for i in items]):  # noqa: C419 - a list is faster here than a generator
        items = [i for i in items for _ in range(i.form.rows)]
    contexts = [i.context for i in items]
    return Rows(
        [c.request_id for c in contexts],
        [i.description[1] for i in items],
        [i.description[5] for i in items],
        [i.description[4] for i in items],
        [c.trace.forwarded for c in contexts],
    )
