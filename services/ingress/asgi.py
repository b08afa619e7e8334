"""The application that runs inside Envoy: `app` is what pyvoy loads. Its lifespan builds and closes everything."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from headrace.hop import config
from headrace.hop.definition import Runtime
from headrace.hop.process import grpc_core
from headrace.hop.process.lifecycle import EXIT_CONFIG
from headrace.start import collect_rarely
from services.ingress.admission.admission_control import no_slot
from services.ingress.admission.shedder import Shedder
from services.ingress.config import IngressSettings
from services.ingress.envoy.configuration import SETTINGS_VARIABLE
from services.ingress.lane import library
from services.ingress.lane.server import Lane
from services.ingress.protocols.asgi import Application, Receive, Scope, Send
from services.ingress.protocols.grpc.unary import refusal_headers
from services.ingress.protocols.registry import routes
from services.ingress.wiring import assembled, hosting

# Envoy's threads have 0.
_NICE = 5


class IngressApplication:
    """An ASGI application. It gets no requests before its lifespan has begun: Envoy waits for that."""

    def __init__(self) -> None:
        self._serve: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._serve is not None:
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                self._serve = await _open(stack)
            except config.ConfigError as error:
                # Reported as in every service: one line and the matching exit code. Envoy has no such code.
                print(f"ingress: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
                os._exit(EXIT_CONFIG)
            except Exception as error:  # noqa: BLE001 - Envoy must learn of every failure to start
                traceback.print_exception(error)
                await send({"type": "lifespan.startup.failed", "message": f"ingress: {error}"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _on_loop_error(loop: asyncio.AbstractEventLoop, details: dict[str, Any]) -> None:
    # pyvoy answers a `receive` that connectrpc has already cancelled. Nothing is lost.
    handle = repr(details.get("handle"))
    if "RecvFutureExecutor" in handle and isinstance(details.get("exception"), asyncio.InvalidStateError):
        return
    loop.default_exception_handler(details)


async def _open(stack: AsyncExitStack) -> Application:
    asyncio.get_running_loop().set_exception_handler(_on_loop_error)
    collect_rarely()  # the services and what they need are imported below
    path = os.environ[SETTINGS_VARIABLE]  # noqa: TID251 - the only value passed on through the exec
    settings = config.load(IngressSettings, Path(path) if path else None)
    runtime = await stack.enter_async_context(hosting(settings))
    ingress = await stack.enter_async_context(assembled(settings, runtime))
    grpc_core.freeze()
    _yield_to_envoy()
    application = routes(ingress, settings.limits)
    lane = _open_lane(stack, application, ingress.door.shedder, runtime)
    runtime.telemetry.ready(True)
    runtime.telemetry.log.info("serving", plaintext=settings.http.plaintext, tls=settings.http.tls, lane=lane)
    return application


def _open_lane(stack: AsyncExitStack, application: Application, shedder: Shedder, runtime: Runtime) -> bool:
    """Whether small requests come by the lane from now on."""
    module = library.compiled()
    if module is None:
        return False
    try:
        lane = Lane(module, application, shedder.refusal, refusal_headers(no_slot()))
        lane.open()
    except OSError as error:
        runtime.telemetry.log.warning("no lane", error=str(error))
        return False
    stack.callback(lane.close)
    return True


def _yield_to_envoy() -> None:
    """Gives Envoy's threads, which accept and refuse requests, priority over this one, which serves admitted requests.

    Otherwise, when both need the same core, Envoy would fall behind: requests would wait in its sockets, where they are not
    counted, and all of them would be answered too late.
    """
    thread = threading.get_native_id()
    # Never upwards: a door that was started with less priority may not raise it, unless it is root.
    os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))


app = IngressApplication()
