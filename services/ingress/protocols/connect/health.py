"""grpc.health.v1 at the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from grpc_health.v1 import health_pb2 as pb  # type: ignore[import-untyped]  # has no stubs

from headrace.hop.errors import Code, Fault, Reason

_SERVING: int = pb.HealthCheckResponse.SERVING
_NOT_SERVING: int = pb.HealthCheckResponse.NOT_SERVING
_UNKNOWN: int = pb.HealthCheckResponse.SERVICE_UNKNOWN
_LOOK_S = 0.1


class Health:
    """The door answers only after all its parts are built. `ready` becomes false when it is about to stop."""

    def __init__(self, services: Sequence[str], ready: Callable[[], Awaitable[bool]]) -> None:
        self._services = ("", *services)
        self._ready = ready

    async def Check(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse:
        if request.service not in self._services:
            raise Fault(
                Code.NOT_FOUND, Reason.REASON_METHOD_UNKNOWN, f"no service {request.service[:120]!r} here"
            )
        return pb.HealthCheckResponse(status=await self._status())

    async def List(self, _: pb.HealthListRequest) -> pb.HealthListResponse:
        status = await self._status()
        return pb.HealthListResponse(
            statuses={s: pb.HealthCheckResponse(status=status) for s in self._services}
        )

    async def Watch(self, request: pb.HealthCheckRequest) -> AsyncIterator[pb.HealthCheckResponse]:
        known = request.service in self._services
        yield pb.HealthCheckResponse(status=await self._status() if known else _UNKNOWN)
        while await self._ready():  # noqa: ASYNC110 - Envoy has no event for it
            await asyncio.sleep(_LOOK_S)
        if known:
            yield pb.HealthCheckResponse(status=_NOT_SERVING)
        # The watch ends here: an open one would delay the stop to its limit. A client that wants more updates calls again.

    async def _status(self) -> int:
        return _SERVING if await self._ready() else _NOT_SERVING
