"""The grpc mode: hop's grpc.aio server and a small ASGI server in this process, and a stock Envoy in front as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
import yaml

from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.process import grpc_core
from headrace.hop.process.lifecycle import stop_signal
from headrace.hop.server.health import Health
from headrace.hop.server.serve import serving
from services.ingress.config import IngressSettings
from services.ingress.envoy import configuration as envoy
from services.ingress.envoy.drain import AdminPort, stop
from services.ingress.envoy.launch import begin_certificates
from services.ingress.envoy.readiness import FRESH_S, Readiness
from services.ingress.protocols.grpc.aio import servicers
from services.ingress.protocols.registry import routes
from services.ingress.wiring import assembled, hosting

_PR_SET_PDEATHSIG = 1
_STARTUP_S = 10.0


class _AsgiServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # we handle the signals: Envoy drains first


@asynccontextmanager
async def build(settings: IngressSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The services for hop's server, with the other protocols on a socket beside it."""
    async with assembled(settings, runtime) as ingress:
        socket = envoy.asgi_socket(settings)
        application: Any = routes(ingress, settings.limits)
        options = uvicorn.Config(
            application,
            uds=str(socket),
            lifespan="off",
            log_config=None,
            access_log=False,
            http="h11",
            ws="none",
        )
        server = _AsgiServer(options)
        serving_http = asyncio.create_task(server.serve())
        try:
            async with asyncio.timeout(_STARTUP_S):
                while not server.started:  # noqa: ASYNC110 - uvicorn has a flag but no event
                    await asyncio.sleep(0.01)
            # uvicorn lets every user open its socket.
            await asyncio.to_thread(socket.chmod, 0o600)
            yield servicers(ingress, settings.limits.max_request_bytes)
        finally:
            server.should_exit = True
            await serving_http
            socket.unlink(missing_ok=True)


SERVICE = Definition("ingress", IngressSettings, build)


async def serve(settings: IngressSettings) -> int:
    """Serves until SIGTERM, SIGINT or the exit of Envoy. Returns Envoy's exit code."""
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    server = settings.server
    stopped = stop_signal()
    # The door's rules apply per request, so several calls must not arrive inside one stream.
    public = settings.model_copy(update={"server": server.model_copy(update={"exchange": False})})
    async with hosting(settings) as runtime, serving(SERVICE, public, runtime) as running:
        front = await _start(settings)
        ended = asyncio.create_task(front.wait())
        asked = asyncio.create_task(stopped.wait())
        grpc_core.freeze()
        admin = AdminPort(settings.admin).ask
        telling = asyncio.create_task(_tell(running.health, Readiness(admin, time.monotonic)))
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        telling.cancel()
        await running.health.set(serving=False)
        running.health.end()
        await stop(admin, notice_s=server.drain_notice_s, drain_s=server.drain_s)
        if front.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                front.terminate()
        return await ended


async def _tell(health: Health, readiness: Readiness) -> None:
    """Copies Envoy's health to hop's server, which cannot ask Envoy itself: a stop may begin at Envoy's admin port."""
    while True:
        ready = await readiness.ready()
        if ready != health.serving:
            await health.set(serving=ready)
        elif not ready:
            health.release()  # ends watches that were notified; an open watch would delay the stop to its limit
        await asyncio.sleep(FRESH_S)


async def _start(settings: IngressSettings) -> asyncio.subprocess.Process:
    await asyncio.to_thread(begin_certificates, settings)
    configuration = settings.run_dir / "envoy.yaml"
    rendered = yaml.safe_dump(envoy.render(settings, in_front=True))
    await asyncio.to_thread(configuration.write_text, rendered)
    return await asyncio.create_subprocess_exec(
        *envoy.command(settings, configuration),
        stdout=sys.stdout,
        stderr=sys.stderr,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    # If the application was killed, an Envoy that kept running would answer 503 for ever and keep its ports.
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
