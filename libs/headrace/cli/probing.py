"""Whether a process is ready, asked of the process itself."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Protocol

from grpc_health.v1 import health_pb2  # type: ignore[import-untyped] # grpcio-health-checking has no stubs

from headrace.hop.client_settings import Client as ClientSettings
from headrace.hop.client_settings import Coalesce, Retry
from headrace.hop.dial import Client
from headrace.hop.errors import Fault
from headrace.hop.method import unary

_CHECK = unary(
    health_pb2.DESCRIPTOR,
    "Health",
    "Check",
    health_pb2.HealthCheckRequest,
    health_pb2.HealthCheckResponse,
    idempotent=True,
)
_TIMEOUT_S = 1.0
_STATUS_200 = re.compile(rb"HTTP/1\.[01] 200 ")
_APPLICATION_READY = b'headrace_ready{service="ingress"} 1.0'


class Probe(Protocol):
    """One process's readiness."""

    async def ready(self) -> bool:
        """Whether it takes work now. Never raises; answers within about a second."""
        ...

    async def close(self) -> None:
        """Gives back its connection."""
        ...


class GrpcProbe:
    """grpc.health.v1 on the unix socket of one process."""

    def __init__(self, service: str, path: Path) -> None:
        settings = ClientSettings(
            target=f"unix:{path}",
            exchange=False,
            retry=Retry(attempts=1),
            coalesce=Coalesce(enabled=False),
        )
        self._client = Client(service, settings)
        self._check = self._client.unary(_CHECK)

    async def ready(self) -> bool:
        try:
            reply = await self._check(health_pb2.HealthCheckRequest(), deadline=time.monotonic() + _TIMEOUT_S)
        except Fault:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        await self._client.close()


class IngressProbe:
    """Envoy's admin interface says LIVE, and the application inside says ready in its metrics.

    Both are on ports of this one process. The door itself is not asked: during a restart two processes share it.
    """

    def __init__(self, admin: str, metrics: str) -> None:
        """Both host:port."""
        self._admin = admin
        self._metrics = metrics

    async def ready(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                live = await _get(self._admin, "/ready")
                return live is not None and _APPLICATION_READY in (
                    await _get(self._metrics, "/metrics") or b""
                )
        except (OSError, TimeoutError):
            return False

    async def close(self) -> None: ...


async def _get(address: str, path: str) -> bytes | None:
    """The answer to a GET, head included; None unless its status is 200."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        answer = await reader.read()
        return answer if _STATUS_200.match(answer) else None
    finally:
        writer.close()
