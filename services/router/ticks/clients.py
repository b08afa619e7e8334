"""The monitoring service, over hop."""

from __future__ import annotations

from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Fault
from headrace.ticks import Tick
from headrace.ticks.messages import write
from services.router.ticks.reporter import Receipt

REPORT = unary(pb.ReportTicksRequest, pb.ReportTicksResponse, idempotent=True)


class HopMonitoring:
    """Implements `reporter.Monitoring`."""

    def __init__(self, client: Client) -> None:
        self._report = client.each(REPORT)

    async def report(self, tick: Tick, deadline: float) -> list[Receipt | Fault]:
        replies = await self._report(write(tick), deadline=deadline)
        return [
            reply if isinstance(reply, Fault) else Receipt(reply.behind, reply.live_router_count)
            for reply in replies
        ]
