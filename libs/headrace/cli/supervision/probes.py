"""Probes of a process: calls like those that its callers make.

A call that is answered has passed the process's event loop. If no answer comes in time, the heartbeat of the loop, which
another thread of the process publishes with the metrics, says whether the loop is blocked or has too much to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from pathlib import Path

from grpc_health.v1 import health_pb2  # type: ignore[import-untyped] # grpcio-health-checking has no stubs

from headrace.cli.supervision.restart_policy import ProbeResult
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.client.settings import ClientRules, RetryRules
from headrace.hop.errors import Code, Fault
from headrace.hop.process.heartbeat import AGE

_CHECK = unary(health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse, idempotent=True, name="Check")
# Codes by which hop's client says that the callee did not answer.
_NO_ANSWER = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
_READY = re.compile(rb"HTTP/1\.[01] 200 ")
_HEARTBEAT = re.compile(rf"^{AGE} (\S+)$".encode(), re.MULTILINE)
# A thread of the process publishes the heartbeat; on a loaded machine it has to wait, too.
HEARTBEAT_TIMEOUT_S = 2.0
_FRESH_S = 5.0
_PAGE_TIMEOUT_S = 10.0
_METRICS_PATH = "/metrics"
_READY_PATH = "/v2/health/ready"
# PROXY protocol, version 2, command LOCAL: the connection is made for no other client, as is usual for health checks.
_OF_OURS = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


class GrpcProbe:
    """grpc.health.v1 on the unix socket of one process. hop serves it on the event loop that serves the calls."""

    def __init__(self, service: str, path: Path, metrics: str) -> None:
        """`metrics`: host:port."""
        settings = ClientRules(target=f"unix:{path}", exchange=False, retry=RetryRules(attempts=1))
        self._client = Client(service, settings)
        self._check = self._client.unary(_CHECK)
        self._metrics = metrics

    async def look(self, timeout_s: float) -> ProbeResult:
        """What the process does now. Never raises. `timeout_s`: how long to wait for the answer."""
        try:
            reply = await self._check(health_pb2.HealthCheckRequest(), deadline=time.monotonic() + timeout_s)
        except Fault as fault:
            return await _unanswered(self._metrics) if fault.code in _NO_ANSWER else ProbeResult.REFUSING
        return (
            ProbeResult.READY
            if reply.status == health_pb2.HealthCheckResponse.SERVING
            else ProbeResult.REFUSING
        )

    async def close(self) -> None:
        """Closes its connection."""
        await self._client.close()


class IngressProbe:
    """Asks the ingress for `/v2/health/ready`: through Envoy's listener, its filters and the application's event loop.

    During a restart, and with several workers, processes share the public port. Envoy's listener also has a private
    socket, at which TLS arrives: only that one is sure to reach this process.
    """

    def __init__(self, address: Path | str, metrics: str) -> None:
        """`address`: the private socket; the public host:port where there is no TLS. `metrics`: host:port."""
        self._address = address
        self._metrics = metrics

    async def look(self, timeout_s: float) -> ProbeResult:
        """As `GrpcProbe.look`."""
        private = isinstance(self._address, Path)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await _get(self._address, _READY_PATH, _OF_OURS if private else b"")
        except (FileNotFoundError, ConnectionRefusedError, TimeoutError):
            return await _unanswered(self._metrics)  # nobody listens, accepts or answers
        except OSError:
            return ProbeResult.REFUSING  # Envoy closes the connections that are too many for it
        return ProbeResult.READY if _READY.match(answer) else ProbeResult.REFUSING

    async def close(self) -> None:
        """Each look has a connection of its own."""


async def _unanswered(metrics: str) -> ProbeResult:
    age = await heartbeat_age(metrics)
    return ProbeResult.SILENT if age is None or age > _FRESH_S else ProbeResult.BUSY


async def heartbeat_age(metrics: str) -> float | None:
    """Seconds since a process's event loop last ran; None if its metrics, at host:port, do not say."""
    try:
        async with asyncio.timeout(HEARTBEAT_TIMEOUT_S):
            found = _HEARTBEAT.search(await _get(metrics, _METRICS_PATH))
            return float(found[1]) if found else None
    except (OSError, TimeoutError, ValueError):
        return None


def waits_for_disk(pid: int) -> bool:
    """Whether a thread of the process waits for a disk, or for another device that can't be interrupted."""
    with contextlib.suppress(OSError):  # it has ended
        return any(kernel_state(task) == "D" for task in Path(f"/proc/{pid}/task").iterdir())
    return False


def kernel_state(task: Path) -> str:
    """Of a process or thread, by its folder in /proc: R, S, D, T, …; empty if it has ended."""
    with contextlib.suppress(OSError):
        # Its name, before the bracket, may be any bytes.
        return (task / "stat").read_bytes().rpartition(b") ")[2][:1].decode()
    return ""


async def metrics_page(metrics: str) -> bytes:
    """The metrics page of a process, at host:port or the URL that `headrace status` tells; empty if it does not answer."""
    metrics = metrics.removeprefix("http://").removesuffix(_METRICS_PATH)
    try:
        async with asyncio.timeout(_PAGE_TIMEOUT_S):
            return await _get(metrics, _METRICS_PATH)
    except (OSError, TimeoutError, ValueError):
        return b""


def metrics_pages(places: Mapping[str, str]) -> dict[str, bytes]:
    """By name, the metrics page of each process; empty if it does not answer. `places`: as of `metrics_page`."""

    async def pages() -> list[bytes]:
        return await asyncio.gather(*map(metrics_page, places.values()))

    return dict(zip(places, asyncio.run(pages()), strict=True))


async def _get(address: Path | str, path: str, before: bytes = b"") -> bytes:
    """The response to a GET, with its head; `address`: a unix socket, or host:port. `before`: is sent first."""
    if isinstance(address, Path):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        host, _, port = str(address).rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(before + f"GET {path} HTTP/1.1\r\nHost: headrace\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()
