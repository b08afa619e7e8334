"""grpc.health.v1 at the door. Whether the process is about to stop is Envoy's to say (its health_check filter)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from grpc_health.v1 import health_pb2 as pb  # type: ignore[import-untyped]  # has no stubs

from headrace.hop.errors import Code, Fault, Reason

_SERVING = pb.HealthCheckResponse.SERVING
_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The door answers only once everything behind it is built, so whoever hears it hears SERVING."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = ("", *services)

    async def Check(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse:
        if request.service not in self._services:
            raise Fault(
                Code.NOT_FOUND, Reason.REASON_METHOD_UNKNOWN, f"no service {request.service[:120]!r} here"
            )
        return pb.HealthCheckResponse(status=_SERVING)

    async def List(self, _: pb.HealthListRequest) -> pb.HealthListResponse:
        return pb.HealthListResponse(
            statuses={s: pb.HealthCheckResponse(status=_SERVING) for s in self._services}
        )

    async def Watch(self, request: pb.HealthCheckRequest) -> AsyncIterator[pb.HealthCheckResponse]:
        known = request.service in self._services
        yield pb.HealthCheckResponse(status=_SERVING if known else _UNKNOWN)
        # The state does not change while we live; the end of the stream is the news.
        await asyncio.Event().wait()
