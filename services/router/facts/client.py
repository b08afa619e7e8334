"""The monitoring service's reports, over hop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from headrace.api.monitoring.v1 import events_pb2
from headrace.api.monitoring.v1 import facts_pb2 as pb
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Fault

REPORT = unary(pb.ReportRequest, pb.ReportResponse, idempotent=True)


class Answer(NamedTuple):
    """`ticks`: what each replica says of the tick, or why it has not got it; `parts`: what one says of all else."""

    ticks: Sequence[pb.TickReceipt | Fault]
    parts: pb.ReportResponse | Fault


class HopFacts:
    """Implements `sender.Receiver` and `commits.Committer`."""

    def __init__(self, client: Client) -> None:
        self._replicas = client.replicas
        self._one = client.unary(REPORT)
        self._each = client.each(REPORT)

    async def report(self, request: pb.ReportRequest, deadline: float) -> Answer:
        """A tick goes to every replica, all else to one. `deadline`: monotonic seconds."""
        if not request.HasField("tick") or len(self._replicas.all) < 2:
            reply = await self._outcome(request, deadline)
            return Answer([reply if isinstance(reply, Fault) else reply.tick], reply)
        tick = pb.ReportRequest(epoch=request.epoch, tick=request.tick)
        request.ClearField("tick")
        replies, reply = await asyncio.gather(
            self._each(tick, deadline=deadline), self._outcome(request, deadline)
        )
        return Answer([r if isinstance(r, Fault) else r.tick for r in replies], reply)

    async def commit(self, events: events_pb2.EventReport, deadline: float) -> None:
        """The events are on monitoring's disk when this returns. Raises Fault."""
        await self._one(pb.ReportRequest(events=events, durable=True), deadline=deadline)

    async def _outcome(self, request: pb.ReportRequest, deadline: float) -> pb.ReportResponse | Fault:
        try:
            return await self._one(request, deadline=deadline)
        except Fault as fault:
            return fault
