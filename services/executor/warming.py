"""The way of a call, passed for each model before the first caller does: loading has warmed the engines alone."""

from __future__ import annotations

import time
from contextlib import suppress

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import Batch, Column, DType, Rows, encode
from headrace.hop.call import LOCAL_PEER, Call
from headrace.hop.errors import Fault
from headrace.repository import Metadata
from services.executor.loading import blank
from services.executor.metrics import Tallies
from services.executor.models import Models
from services.executor.servicer import ExecutorServicer

# What a call takes falls over the first ones (443, 276, 106 … 62 µs: pages that memory was given back, Python's and
# protobuf's first passes), and not much after these; a model that takes long gains little from more than one.
_CALLS = 20
_ENOUGH_S = 0.05
_PATIENCE_S = 10.0
_CALL = Call("", LOCAL_PEER)


async def pass_through(servicer: ExecutorServicer, models: Models, tallies: Tallies) -> None:
    """Calls each model that is awake, as a hop does, message included. Nothing of it is counted."""
    for entry in models.all():
        if entry.runner is not None:
            raw = _request(entry.metadata)
            ends = time.monotonic() + _ENOUGH_S
            for _ in range(_CALLS):
                # Who can't run it now says so to its callers, too: that is no reason not to begin.
                with suppress(Fault):
                    reply = await servicer.Execute(pb.ExecuteRequest.FromString(raw), _CALL)
                    reply.SerializeToString()
                if time.monotonic() > ends:
                    break
    tallies.clear()


def _request(about: Metadata) -> bytes:
    """One blank row, serialized."""
    columns = []
    for spec in about.inputs:
        if spec.dtype is DType.BYTES:
            size = blank(spec, 1).size
            columns.append(Column.of_bytes(spec.name, [b""] * size, spec.row_shape))
        else:
            columns.append(Column.of(spec.name, blank(spec, 1)))
    rows = Rows.one_request(1, "warm-up", "", time.monotonic() + _PATIENCE_S)
    message = pb.ExecuteRequest(
        model=about.name, version=about.version, batch=encode(Batch.of(rows, columns))
    )
    return message.SerializeToString()
