"""A servicer's batches: read from the message and written into it, or taken and given as they are within a process."""

from __future__ import annotations

from headrace.columns.batch import Batch
from headrace.columns.batch_codec import Carrier
from headrace.columns.wire import decode, encode_into
from headrace.hop.call import Call


def received(request: Carrier, call: Call, now: float) -> Batch:
    """The batch of a request that came at `now` (monotonic seconds). Its rows' time runs from when it was sent, if that is
    known: it may have waited for a process that was stopped, or is busy. Raises Fault INVALID_ARGUMENT as `decode`."""
    if call.payload is not None and isinstance(call.payload.brought, Batch):
        batch = call.payload.brought
    else:
        batch = decode(request.batch, now if call.sent is None else min(call.sent, now))
    call.request_ids = batch.rows.request_ids
    return batch


def answer(reply: Carrier, batch: Batch, call: Call, now: float) -> None:
    """Puts the batch into the empty reply, or beside it for a caller that brought its own so."""
    if call.payload is not None and isinstance(call.payload.brought, Batch):
        call.payload.returned = batch
    else:
        encode_into(reply.batch, batch, now)
