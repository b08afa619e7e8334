"""A features service that answers with the values that were recorded.

A row's request id says which recorded row it is: NUMBER.ROW. So it does not matter in which order or company rows come.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from headrace.api.features.v1 import features_pb2 as pb
from headrace.cli.replay.stored_events import Record
from headrace.columns import Batch, wire
from headrace.hop.call import Call
from headrace.hop.config import ServiceSettings
from headrace.hop.definition import Definition, Runtime, Service


class RecordedFeatures:
    """Serves headrace.api.features.v1.FeaturesService, one record at a time: that of `begin`."""

    def __init__(self) -> None:
        self._record: Record | None = None

    def begin(self, record: Record) -> None:
        """Answers with the values of this record from now on."""
        self._record = record

    async def GetFeatures(self, request: pb.GetFeaturesRequest, call: Call) -> pb.GetFeaturesResponse:
        """The recorded values and ages."""
        assert self._record is not None, "rows come after `begin`"
        record, batch = self._record, wire.read_request(request, call, time.monotonic())
        index = np.array([int(name.rpartition(".")[2]) for name in batch.rows.request_ids], np.intp)
        columns = {name: column.take(index) for name, column in record.features.items()}
        reply = pb.GetFeaturesResponse()
        wire.write_reply(reply, Batch(batch.rows, columns), call, time.monotonic())
        return reply

    def definition(self) -> Definition[ServiceSettings]:
        """The service to host."""

        @asynccontextmanager
        async def build(_settings: ServiceSettings, _runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
            descriptor = pb.DESCRIPTOR.services_by_name["FeaturesService"]
            yield [Service(descriptor, self, takes_payload=True)]

        return Definition("features", ServiceSettings, build)
