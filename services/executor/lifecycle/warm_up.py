"""Warm-up calls: each model is called through the servicer before the service is ready.

Loading warms up the engines only; the code from the request's bytes to the reply's is warmed up here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from headrace.columns import Batch, Column, DType, Rows
from headrace.hop.errors import Fault
from headrace.repository import Metadata
from services.executor.lifecycle.activation import blank_tensor
from services.executor.lifecycle.models import Models
from services.executor.metrics import Metrics

# The time of a call falls over the first ones (443, 276, 106 … 62 µs: memory pages that were returned to the system, first
# passes of Python and protobuf), and little after 20. A slow model gains little from more than one.
_CALLS = 20
_ENOUGH_S = 0.05
_PATIENCE_S = 10.0

CallModel = Callable[[str, str, Batch], Awaitable[None]]
"""Calls a version of a model with a batch, as callers do."""


async def warm_up_calls(call_serialized: CallModel, models: Models, metrics: Metrics) -> None:
    """Calls each model that is in memory. These calls are in no metric."""
    for entry in models.all():
        if entry.runner is not None:
            about, batch = entry.metadata, _blank_row(entry.metadata)
            ends = time.monotonic() + _ENOUGH_S
            for _ in range(_CALLS):
                # A model that fails now will fail for its callers, too: no reason not to start.
                with suppress(Fault):
                    await call_serialized(about.name, about.version, batch)
                if time.monotonic() > ends:
                    break
    metrics.reset_versions()


def _blank_row(about: Metadata) -> Batch:
    columns = []
    for spec in about.inputs:
        if spec.dtype is DType.BYTES:
            size = blank_tensor(spec, 1).size
            columns.append(Column.of_bytes(spec.name, [b""] * size, spec.row_shape))
        else:
            columns.append(Column.of(spec.name, blank_tensor(spec, 1)))
    rows = Rows.one_request(1, "warm-up", "", time.monotonic() + _PATIENCE_S)
    return Batch.of(rows, columns)
