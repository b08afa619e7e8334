"""The console's own HTTP server, beside the service's gRPC server: it must never take the service with it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from services.monitoring.console.settings import ConsoleSettings
from services.monitoring.console.web.connections import REQUEST_S, Connection, Connections
from services.monitoring.ports import Log

# During a restart, the address belongs to the process that goes until it has gone; of several processes, one has it.
_AGAIN_S = 1.0
_DRAIN_S = 2
_HEADER_BYTES = 32 << 10


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the service handles the signals


async def serve(application: ASGIApp, connections: Connections, settings: ConsoleSettings, log: Log) -> None:
    """Serves until cancelled. Whatever goes wrong is logged once, and tried again."""
    told = ""
    while True:
        try:
            with _bound(*settings.address) as listening:
                log.info("the console listens", address=settings.listen)
                told = ""
                await _until_it_ends(application, connections, settings, listening)
                raise RuntimeError("the server has ended by itself")
        except Exception as error:  # noqa: BLE001 - the console must come back, and the service go on without it
            text = _why(error, settings.listen)
            if text != told:
                log.warning("the console does not serve; it tries again each second", why=text)
            told = text
        await asyncio.sleep(_AGAIN_S)


async def _until_it_ends(
    application: ASGIApp, connections: Connections, settings: ConsoleSettings, listening: socket.socket
) -> None:
    server = _Server(
        uvicorn.Config(
            application,
            lifespan="off",
            log_config=None,
            access_log=False,
            # What uvicorn calls with the arguments of its own protocols.
            http=partial(Connection, connections),  # type: ignore[arg-type]  # it is called as a class
            ws="none",
            server_header=False,
            # Headers about other addresses are for proxies; nobody here is one.
            proxy_headers=False,
            timeout_keep_alive=int(REQUEST_S),
            timeout_graceful_shutdown=_DRAIN_S,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(task)
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.setblocking(False)
        yield listening


def _why(error: Exception, address: str) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{address} is in use, by another process of this service or by another program"
    return f"{type(error).__name__}: {error}"
