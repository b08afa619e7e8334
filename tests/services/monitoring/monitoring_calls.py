"""Calls of a served monitoring service by the names of its methods."""

import time
from typing import Any

from headrace.api.monitoring.v1 import accuracy_pb2, events_pb2, explanations_pb2, monitoring_pb2
from headrace.hop.call import Method, methods_of
from headrace.hop.testing import Harness

METHODS: dict[str, Method[Any, Any]] = {
    method.name: method
    for messages in (accuracy_pb2, events_pb2, explanations_pb2, monitoring_pb2)
    for service in messages.DESCRIPTOR.services_by_name.values()
    for method in methods_of(service)
}


async def call(harness: Harness, name: str, request: Any) -> Any:
    """The reply."""
    return await harness.client().unary(METHODS[name])(request, deadline=time.monotonic() + 60)
