"""A features service that answers with the values that were recorded.

A row's request id says which recorded row it is: NUMBER.ROW. So it does not matter in which order or company rows come.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import Batch, RowError, wire
from headrace.hop.call import Call
from headrace.hop.config import ServiceSettings
from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.errors import Reason
from headrace.pipeline import FeaturesStage, Pipeline
from headrace.recordings import Record


class RecordedFeatures:
    """Serves headrace.api.features.v1.FeaturesService for `pipeline`, one record at a time: that of `begin`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._stages: dict[str, set[str]] = {}
        for stage in pipeline.stages:
            if isinstance(stage, FeaturesStage):
                self._stages.setdefault(stage.feature_service, set()).add(stage.name)
        self._record: Record | None = None

    def begin(self, record: Record) -> None:
        """Answers with the values of this record from now on."""
        self._record = record

    async def GetFeatures(self, request: pb.GetFeaturesRequest, call: Call) -> pb.GetFeaturesResponse:
        """The recorded values and ages; rows that the service failed then, it fails again."""
        assert self._record is not None, "rows come after `begin`"
        record, batch = self._record, wire.read_request(request, call, time.monotonic())
        index = np.array([int(name.rpartition(".")[2]) for name in batch.rows.request_ids], np.intp)
        columns = {name: column.take(index) for name, column in record.features.items()}
        errors = self._errors(record, self._stages.get(request.feature_service, set()), index.tolist())
        reply = pb.GetFeaturesResponse()
        wire.write_reply(reply, Batch(batch.rows, columns, errors), call, time.monotonic())
        return reply

    def _errors(self, record: Record, stages: set[str], index: Sequence[int]) -> dict[int, RowError]:
        """What the service itself refused. What the pipeline's own rules refused, the router decides anew by the ages."""
        found = {}
        for position, row in enumerate(index):
            error = record.answer.errors.get(row)
            if (
                error is not None
                and error.stage in stages
                and error.reason != Reason.REASON_FEATURE_UNAVAILABLE
            ):
                found[position] = error
        return found

    def definition(self) -> Definition[ServiceSettings]:
        """The service to host."""

        @asynccontextmanager
        async def build(_settings: ServiceSettings, _runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
            descriptor = pb.DESCRIPTOR.services_by_name["FeaturesService"]
            yield [Service(descriptor, self, takes_payload=True)]

        return Definition("features", ServiceSettings, build)
