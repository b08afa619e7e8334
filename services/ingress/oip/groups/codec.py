"""Groups: requests that wait at the same time for one lane are read, checked and answered as one batch of the router.

A message that answers one of them is the values of its rows, behind a head that requests share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from headrace.columns import Batch, Column, Ragged, Rows
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.columns.oip_tensors import pack_bytes
from headrace.columns.wire import Carrier
from headrace.hop.batching.codec import ItemDescription
from headrace.hop.errors import Fault
from headrace.pipeline import MODELS_USED, REGULATED, Decision, rounded, validate_inputs
from services.ingress.attributes import Attributes
from services.ingress.inference import InferenceResult, InferenceShare, Routed, first_fault
from services.ingress.oip.groups.form import Form, FormedRequest, Lane, varint
from services.ingress.oip.response import CACHED, SOURCE, write

# Tags of fields of ModelInferResponse: the id, and the values of an output.
_ID, _VALUES = b"\x1a", b"\x32"
# Heads of one form; there are more only while releases change.
_MOST_HEADS = 64

# The message that answers a request, or why there is none; what is known of its rows, if they were sent.
GroupReply: TypeAlias = tuple[bytes | Fault, InferenceShare | None]


def replies(whole: InferenceResult, requests: Sequence[FormedRequest], now: float) -> list[GroupReply]:
    """The message of each request, or its fault, and its rows in `whole`."""
    errors, heads = whole.batch.errors, _Heads(whole)
    outputs: dict[Form, Sequence[_Output] | Fault] = {}
    found: list[GroupReply] = []
    stop = 0
    for request in requests:
        form, context, sent = request.form, request.context, request.sent
        start, stop = stop, stop + form.rows
        share = InferenceShare(whole, start, stop, sent - context.received, now - sent)
        values = outputs.get(form)
        if values is None:
            values = outputs[form] = _outputs(whole, form)
        if errors and any(row in errors for row in range(start, stop)):
            found.append((first_fault(share.batch), share))
        elif isinstance(values, Fault):
            found.append((values.copy(), share))
        elif (head := heads.of(form, share)) is None:
            message = write(share.result(), form.outputs, context.reply_id)
            found.append((message.SerializeToString(), share))
        else:
            own = context.reply_id.encode()
            parts = [head, _ID, varint(len(own)), own]
            for value in values:
                parts += value(start, stop)
            found.append((b"".join(parts), share))
    return found


class _Heads:
    """The messages of a group without ids and values. Rows that differ in nothing that a head says have the same."""

    def __init__(self, whole: InferenceResult) -> None:
        self._whole = whole
        columns = whole.batch.columns
        # Answers that were kept have an age, which is in the head.
        self._each = CACHED in columns
        self._names = _marked(tuple(columns), fallbacks=bool(whole.fallbacks))
        marks = [columns[name].array.tolist() for name in self._names]
        decided = whole.decided or [0] * len(whole.batch.rows.request_ids)
        # What each row has of its own: its place among the decisions, and its marks.
        self._own = list(zip(decided, *marks, strict=True))
        self._found: dict[Hashable, bytes] = {}

    def of(self, form: Form, share: InferenceShare) -> bytes | None:
        """None: it is to be written for this request alone."""
        start, rows = share.start, share.rows
        own = self._own[start]
        if self._each or (rows > 1 and self._own[start : share.stop].count(own) < rows):
            return None
        key = form, own
        head = self._found.get(key)
        if head is None:
            head = self._found[key] = self._cached(form, own, share)
        return head

    def _cached(self, form: Form, own: tuple[int, ...], share: InferenceShare) -> bytes:
        """The head that the form has kept from earlier groups, or a new one."""
        whole = self._whole
        decision = _hashable(whole.decisions[own[0]]) if whole.decisions else None
        revision = whole.entry.pipeline.revision
        key = decision, revision, tuple(whole.fallbacks), self._names, own[1:]
        head = form.heads.get(key)
        if head is None:
            if len(form.heads) >= _MOST_HEADS:
                form.heads.clear()
            message = write(share.result(), form.outputs, "")
            del message.raw_output_contents[:]
            head = form.heads[key] = message.SerializeToString()
        return head


@functools.lru_cache(maxsize=256)
def _marked(columns: tuple[str, ...], *, fallbacks: bool) -> tuple[str, ...]:
    """Which of these columns say something that a head says, too."""
    names = [name for name in columns if name.startswith(MODELS_USED)]
    if fallbacks:
        names += ["@fallbacks", *[name for name in columns if name.startswith(SOURCE)]]
    return tuple(names)


def _hashable(decision: Decision) -> Hashable:
    d = decision
    return d.version, d.revision, d.route, tuple(d.models), d.release, d.rule, d.sticky


# The parts of a message that are the values of rows start…stop−1 of an output.
_Output = Callable[[int, int], Sequence[bytes]]


def _outputs(whole: InferenceResult, form: Form) -> Sequence[_Output] | Fault:
    try:
        return [_output(column, form.rows) for column in whole.outputs(form.outputs)]
    except Fault as fault:
        return fault


def _output(column: Column, rows: int) -> _Output:
    values = column.values
    if isinstance(values, Ragged):
        items, size = values.to_list(), column.row_size

        def strings(start: int, stop: int) -> Sequence[bytes]:
            data = pack_bytes(items[start * size : stop * size])
            return _VALUES, varint(len(data)), data

        return strings
    data, width = values.tobytes(), values.itemsize * column.row_size
    tag = _VALUES + varint(rows * width)
    return lambda start, stop: (tag, data[start * width : stop * width])


Req = TypeVar("Req", bound=Carrier)
Resp = TypeVar("Resp", bound=Carrier)


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
        return self._answered(items, sent, self._codec.split([_sent(sent)], response))

    def unload(self, items: Sequence[FormedRequest], response: Resp, returned: Batch) -> list[GroupReply]:
        sent = _allowed(items)
        return self._answered(items, sent, self._codec.unload([_sent(sent)], response, returned))

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
        items[0].shared = len(items), batch.rows
        if self._attributes is not None:
            headers = [i.context.headers for i in items for _ in range(i.form.rows)]
            batch = batch.with_columns(self._attributes.columns(headers))
        if lane.regulated:
            batch = batch.with_columns([Column.of(REGULATED, np.ones(len(batch), bool))])
        return BatchCall(lane.header, batch)

    def _answered(
        self, items: Sequence[FormedRequest], sent: Sequence[FormedRequest], replied: list[BatchReply[Resp]]
    ) -> list[GroupReply]:
        entry, routed, now = items[0].lane.entry, self._routed(replied[0]), self._clock()
        batch = rounded(entry.pipeline, routed.batch) if entry.rounds else routed.batch
        whole = InferenceResult(entry, batch, routed.fallbacks, routed.decisions, 0.0, 0.0, routed.decided)
        answered = replies(whole, sent, now)
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


def _sent(items: Sequence[FormedRequest]) -> BatchCall[tuple[str, int]]:
    """The call that these were sent in, without its columns."""
    count, rows = items[0].shared or (0, None)
    if rows is None or count != len(items):
        rows = _rows(items)
    return BatchCall(items[0].lane.header, Batch(rows, {}))


def _rows(items: Sequence[FormedRequest]) -> Rows:
    if any([i.form.rows > 1 for i in items]):  # noqa: C419 - a list is faster here than a generator
        items = [i for i in items for _ in range(i.form.rows)]
    ids, tenants, priorities, deadlines, traceparents = map(list, zip(*[i.row for i in items], strict=True))
    return Rows(ids, tenants, priorities, deadlines, traceparents)
