"""The monitoring service's reports, over hop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.api.monitoring.v1 import events_pb2
from headrace.api.monitoring.v1 import facts_pb2 as pb
from headrace.events import EventGroup
from headrace.events import messages as event_messages
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Fault
from headrace.ticks import Exposure, Tick
from headrace.ticks import messages as tick_messages
from services.router.facts.sender import Answer, PartReceipt, TickReceipt

REPORT = unary(pb.ReportRequest, pb.ReportResponse, idempotent=True)


class EventMessages:
    """Writes and reads messages of events; `replica`: name of this process. Implements `commits.Codec`."""

    def __init__(self, replica: str) -> None:
        self._replica = replica

    def write(self, epoch: int, noted: int, groups: Sequence[EventGroup]) -> events_pb2.EventReport:
        return event_messages.write(self._replica, epoch, noted, groups)

    def encode(self, message: events_pb2.EventReport) -> bytes:
        return message.SerializeToString()

    def decode(self, content: bytes) -> events_pb2.EventReport:
        """Raises ValueError for other bytes."""
        try:
            return events_pb2.EventReport.FromString(content)
        except Exception as error:
            raise ValueError("a frame holds no events") from error

    def part(self, epoch: int, noted: int, groups: Sequence[EventGroup]) -> pb.ReportRequest:
        """A report of them alone."""
        return pb.ReportRequest(events=self.write(epoch, noted, groups))


def write_exposures(exposures: Sequence[Exposure]) -> pb.ReportRequest:
    """A report of them alone."""
    return pb.ReportRequest(exposures=tick_messages.write_exposures(exposures))


class HopFacts:
    """Implements `sender.Receiver` and `commits.Committer`."""

    def __init__(self, client: Client) -> None:
        self._replicas = client.replicas
        self._one = client.unary(REPORT)
        self._each = client.each(REPORT)

    async def report(
        self, epoch: int, tick: Tick | None, parts: Mapping[str, Any], deadline: float
    ) -> Answer:
        request = await asyncio.to_thread(_request, epoch, tick, parts)
        if tick is None or len(self._replicas.all) < 2:
            reply = await self._reply(request, deadline)
            ticks = [reply if isinstance(reply, Fault) else _tick_receipt(reply)]
        else:
            alone = pb.ReportRequest(epoch=epoch, tick=request.tick)
            request.ClearField("tick")
            replies, reply = await asyncio.gather(
                self._each(alone, deadline=deadline), self._reply(request, deadline)
            )
            ticks = [r if isinstance(r, Fault) else _tick_receipt(r) for r in replies]
        if isinstance(reply, Fault):
            return Answer(ticks, reply)
        return Answer(ticks, {name: _receipt(getattr(reply, name)) for name in parts})

    async def commit(self, events: events_pb2.EventReport, deadline: float) -> None:
        await self._one(pb.ReportRequest(events=events, durable=True), deadline=deadline)

    async def _reply(self, request: pb.ReportRequest, deadline: float) -> pb.ReportResponse | Fault:
        try:
            return await self._one(request, deadline=deadline)
        except Fault as fault:
            return fault


def _request(epoch: int, tick: Tick | None, parts: Mapping[str, pb.ReportRequest]) -> pb.ReportRequest:
    request = pb.ReportRequest(epoch=epoch, tick=None if tick is None else tick_messages.write(tick))
    for part in parts.values():
        request.MergeFrom(part)
    return request


def _tick_receipt(reply: pb.ReportResponse) -> TickReceipt:
    return TickReceipt(reply.tick.behind, reply.tick.live_router_count)


def _receipt(receipt: pb.PartReceipt) -> PartReceipt:
    return PartReceipt(receipt.dropped_count, receipt.again, receipt.problem)
