"""Clients of the servers that models may run on. The clients live on the event loop; backends call them from threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from google.protobuf.message import Message

from headrace.hop.call import Method
from headrace.hop.client.dial import Client
from headrace.hop.definition import Runtime
from headrace.hop.errors import Code, Fault
from services.executor.backends.backend import BackendError, BackendLateError, BackendLostError
from services.executor.config import RemoteServer

T = TypeVar("T")
Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)
# The client ends its calls at their deadline. If that does not happen in this time, the event loop is blocked.
_SLACK_S = 1.0
# As much as protobuf can read.
_MAX_MESSAGE_BYTES = (1 << 31) - 1
# The rows are not the reason: the server is gone, or refuses us.
_LOST = {Code.UNAVAILABLE, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.UNIMPLEMENTED}
_LATE = {Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.CANCELLED}


class Servers:
    """One client per server, made when it is first needed. `loop`: the event loop of the clients."""

    def __init__(
        self, servers: Mapping[str, RemoteServer], runtime: Runtime, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._servers = servers
        self._runtime = runtime
        self._loop = loop
        self._clients: dict[str, Client] = {}

    def server(self, name: str) -> Server:
        """The server of that name. Raises BackendError if the settings know none."""
        if name not in self._servers:
            known = ", ".join(sorted(self._servers)) or "none"
            raise BackendError(f"server {name!r} is not in `servers` (there are: {known})")
        return Server(name, self._servers[name], self)

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs `work` on the event loop; from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def client(self, name: str) -> Client:
        """The client of a server. Call it on the event loop only."""
        if name not in self._clients:
            settings = self._servers[name].client.client(max_message_bytes=_MAX_MESSAGE_BYTES)
            self._clients[name] = self._runtime.dial(f"server {name}", settings)
        return self._clients[name]


class Server:
    """One server, called from threads."""

    def __init__(self, name: str, settings: RemoteServer, servers: Servers) -> None:
        self.name = name
        self._settings = settings
        self._servers = servers
        self._metadata: tuple[tuple[str, str], ...] = ()
        # Calls in progress → when they began. Single operations of a dict are thread-safe.
        self._calls: dict[Future[Any], float] = {}

    def read_key(self) -> None:
        """Reads the credential again. Raises BackendError."""
        if self._settings.key_file is None:
            return
        try:
            key = self._settings.key_file.read_text().strip()
        except OSError as error:
            raise BackendError(
                f"the key file of server {self.name!r} can't be read ({error.strerror})"
            ) from error
        self._metadata = (("authorization", f"Bearer {key}"),)

    def call(self, method: Method[Req, Resp], request: Req, deadline: float) -> Resp:
        """The reply. `deadline`: monotonic seconds.

        Raises BackendLostError or BackendLateError; Fault if the request may be the reason.
        """

        async def work() -> Resp:
            call = self._servers.client(self.name).unary(method)
            return await call(request, deadline=deadline, metadata=self._metadata)

        now = time.monotonic()
        future = self._servers.submit(work())
        self._calls[future] = now
        try:
            return future.result(max(deadline - now, 0.0) + _SLACK_S)
        except Fault as fault:
            if fault.code in _LOST:
                raise BackendLostError(f"server {self.name!r}: {fault.message}") from fault
            if fault.code in _LATE:
                raise BackendLateError(f"server {self.name!r}: {fault.message}") from fault
            raise
        except (TimeoutError, CancelledError) as error:
            future.cancel()
            raise BackendLateError(f"server {self.name!r} did not answer in time") from error
        finally:
            del self._calls[future]

    def cancel(self, started_before: float) -> None:
        """Cancels the calls that began before that (monotonic seconds)."""
        for future, started in list(self._calls.items()):
            if started < started_before:
                future.cancel()
