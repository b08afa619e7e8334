"""grpc.health.v1 of one server: NOT_SERVING until the service is built, and again from the stop signal on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from grpc_health.v1 import (  # type: ignore[import-untyped] # grpcio-health-checking has no stubs
    health,
    health_pb2,
    health_pb2_grpc,
)

from headrace.hop.call import Call
from headrace.hop.process.telemetry import Telemetry

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class _Servicer(health.aio.HealthServicer):  # type: ignore[misc] # its base has no types
    """gRPC's own servicer with watches that can be ended: open watches would delay each drain up to its limit."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        parts = {
            asyncio.ensure_future(super().Watch(request, context)),
            asyncio.ensure_future(self.ended.wait()),
        }
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()


class Health:
    """The state that Check and Watch answer, for the server as a whole ("") and for each of its services."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._servicer = _Servicer()
        self._names: list[str] = [""]
        self.serving = False

    async def attach(self, server: object) -> None:
        """Adds the health service to a gRPC server, before it starts."""
        await self.set(serving=False)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def know(self, services: Iterable[str]) -> None:
        """Answers for these gRPC services too."""
        self._names += services
        await self.set(serving=self.serving)

    async def set(self, *, serving: bool) -> None:
        """Shows the state to every watcher, in the gauge and, if it changed, in the log."""
        for name in self._names:
            await self._servicer.set(name, _SERVING if serving else _NOT_SERVING)
        self._telemetry.ready(serving)
        if serving != self.serving:
            self.serving = serving
            self._telemetry.log.info("health", state="SERVING" if serving else "NOT_SERVING")

    async def check(self, _request: bytes, _call: Call) -> bytes:
        """The server's state as a whole, for connections of frames."""
        status = _SERVING if self.serving else _NOT_SERVING
        reply: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
        return reply

    def end(self) -> None:
        """Ends current and future watches, so that the server can stop."""
        self._servicer.ended.set()
