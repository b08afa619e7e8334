"""Calls of a served monitoring service by the names of its methods."""

import time
from typing import Any

from headrace.api.monitoring.v1 import accuracy_pb2, events_pb2, explanations_pb2, facts_pb2, monitoring_pb2
from headrace.hop.call import Method, methods_of
from headrace.hop.testing import Harness
from headrace.ticks import Tick
from headrace.ticks.messages import write

METHODS: dict[str, Method[Any, Any]] = {
    method.name: method
    for messages in (accuracy_pb2, events_pb2, explanations_pb2, facts_pb2, monitoring_pb2)
    for service in messages.DESCRIPTOR.services_by_name.values()
    for method in methods_of(service)
}


async def report(harness: Harness, tick: Tick | None = None, **parts: Any) -> facts_pb2.ReportResponse:
    """The reply to a report of these parts, of the process 7 if the tick says no other."""
    request = facts_pb2.ReportRequest(
        epoch=tick.epoch if tick else 7, tick=write(tick) if tick else None, **parts
    )
    reply: facts_pb2.ReportResponse = await call(harness, "Report", request)
    return reply


async def call(harness: Harness, name: str, request: Any) -> Any:
    """The reply."""
    return await harness.client().unary(METHODS[name])(request, deadline=time.monotonic() + 60)
