"""A monitoring service of which a test says how it answers routers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from headrace.api.monitoring.v1 import facts_pb2
from headrace.columns import Batch, encode
from headrace.events import EventGroup, messages
from headrace.hop.call import Call
from headrace.hop.definition import Service
from headrace.hop.errors import Fault
from headrace.hop.testing import served
from headrace.ticks import Tick
from headrace.ticks.messages import read as read_tick
from tests.definitions import definition_of
from tests.services.router.router_leaves import Suite, suite


@dataclass
class Monitoring:
    """Keeps what the router tells it. `away`: raised instead, `refused` so often; with `takes_what_it_refuses` it is kept all the
    same. `again`: parts that it does not take now. `hangs`: it answers nothing, as long as that."""

    away: Fault | None = None
    refused: int = 0
    takes_what_it_refuses: bool = False
    again: set[str] = field(default_factory=set)
    hangs: bool = False
    hanging: bool = False
    reports: list[facts_pb2.ReportRequest] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    # Predictions that were given to be explained.
    given: set[bytes] = field(default_factory=set)

    async def NextPredictions(
        self, request: pb.NextPredictionsRequest, call: Call
    ) -> pb.NextPredictionsResponse:
        """The events that it has, each once."""
        reply = pb.NextPredictionsResponse()
        wanted = {demand.revision: demand.columns for demand in request.demands if demand.coverage == 1}
        for group in self.groups:
            about, columns = group.header, group.batch.columns
            ids = columns["@event_id"].ragged.to_list()
            if about.revision in wanted and not self.given.issuperset(ids):
                self.given |= set(ids)
                chosen = Batch.of(group.batch.rows, [columns[name] for name in wanted[about.revision]])
                found = {"pipeline": about.pipeline, "revision": about.revision, "prediction_ids": ids}
                reply.predictions.add(**found, batch=encode(chosen, 0.0))
        return reply

    # Routers call no other method of the service.
    GetExplanation = GetBiasSlices = GetExplanationCoverage = NextPredictions

    async def Report(self, request: facts_pb2.ReportRequest, call: Call) -> facts_pb2.ReportResponse:
        while self.hangs:
            self.hanging = True
            await asyncio.sleep(0.005)
        if self.away is None or self.takes_what_it_refuses:
            self._keep(request)
        if self.away is not None:
            self.refused += 1
            raise self.away
        reply = facts_pb2.ReportResponse()
        for part in self.again:
            getattr(reply, part).again = True
        if request.HasField("tick"):
            reply.tick.live_router_count = 3
        return reply

    def _keep(self, request: facts_pb2.ReportRequest) -> None:
        if request.HasField("tick"):
            self.ticks.append(read_tick(request.epoch, request.tick))
        kept = facts_pb2.ReportRequest()
        kept.CopyFrom(request)
        for part in self.again:
            kept.ClearField(part)
        self.reports.append(kept)

    @property
    def events(self) -> list[facts_pb2.ReportRequest]:
        """The reports that brought events."""
        return [r for r in self.reports if r.HasField("events")]

    @property
    def explanations(self) -> list[pb.ExplanationReport]:
        return [r.explanations for r in self.reports if r.HasField("explanations")]

    @property
    def groups(self) -> list[EventGroup]:
        return [group for report in self.events for group in messages.read(report.events)[0]]


@asynccontextmanager
async def monitored(
    folder: Path,
    documents: dict[str, str],
    monitoring: Monitoring | None = None,
    also: str = "",
    **settings: Any,
) -> AsyncIterator[tuple[Suite, Monitoring]]:
    """A suite whose router tells `monitoring`; `also`: the target of a further replica."""
    leaf = monitoring or Monitoring()
    services = [
        Service(file.DESCRIPTOR.services_by_name[name], leaf)
        for file, name in ((facts_pb2, "FactsService"), (pb, "ExplanationsService"))
    ]
    async with served(definition_of("monitoring", *services)) as harness:
        target = f"{harness.target},{also}" if also else harness.target
        told = {"monitoring": {"target": target}, "tick_s": 600.0, **settings}
        async with suite(folder, documents, **told) as started:
            yield started, leaf
