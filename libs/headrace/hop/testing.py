"""A served definition and clients of it, in one process: over a real socket, or locally."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headrace.hop import config
from headrace.hop.definition import Definition, Runtime
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server import hosting
from headrace.hop.server.serve import Running, serving
from headrace.hop.transport.in_process import LocalServers

if TYPE_CHECKING:
    from headrace.hop.client.dial import Client

Given = Mapping[str, Any] | config.ServiceSettings
_QUIET = config.Telemetry(log_level="warning", trace_ratio=0)


@dataclass
class Harness:
    """A running definition. `running` is None with transport "local"."""

    name: str
    target: str
    settings: config.ServiceSettings
    runtime: Runtime
    running: Running | None
    directory: Path
    # Drains the server while the block goes on, for tests of what its clients see.
    stop: Callable[[], Awaitable[None]]
    _clients: list[Client] = field(default_factory=list)

    @property
    def local(self) -> LocalServers:
        """Where it is found with transport "local"."""
        return self.runtime.local

    def client(self, callee: str = "", **overrides: Any) -> Client:
        """A client of the served definition, which it calls `callee`; closed with the harness."""
        settings = config.ClientSettings(**{"target": self.target, **overrides})
        client = self.runtime.dial(callee or self.name, settings)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Closes the clients it gave out."""
        while self._clients:
            await self._clients.pop().close()


@asynccontextmanager
async def served(
    definition: Definition[Any],
    settings: Given | None = None,
    transport: Literal["unix", "local"] = "unix",
    telemetry: Telemetry | None = None,
) -> AsyncIterator[Harness]:
    """Serves `definition` while open.

    `settings`: its settings class, or a mapping of the service's own fields; where it listens is set here.
    Logs show warnings and errors only, unless a `telemetry` is given.
    """
    telemetry = telemetry or Telemetry(definition.name, _QUIET)
    local = LocalServers(telemetry)
    runtime = Runtime(definition.name, telemetry, local)
    with tempfile.TemporaryDirectory(prefix="hop-") as name:
        directory = Path(name)
        own = _settings(definition, settings, directory)
        running: Running | None = None
        target = own.server.listen
        async with AsyncExitStack() as process, AsyncExitStack() as server:
            process.push_async_callback(telemetry.close)
            if transport == "local":
                await server.enter_async_context(hosting.hosted([(definition, own)], telemetry, local))
                target = "local"
            else:
                running = await server.enter_async_context(serving(definition, own, runtime))
            harness = Harness(definition.name, target, own, runtime, running, directory, server.aclose)
            try:
                yield harness
            finally:
                await harness.close()


def _settings(definition: Definition[Any], given: Given | None, directory: Path) -> config.ServiceSettings:
    values = (
        given.model_dump(exclude_unset=True)
        if isinstance(given, config.ServiceSettings)
        else dict(given or {})
    )
    server = {"drain_notice_s": 0.0, "drain_s": 5.0, **_plain(values.get("server"))}
    server["listen"] = f"unix:{directory / definition.name}"
    settings: config.ServiceSettings = definition.config.model_validate({**values, "server": server})
    return settings


def _plain(server: config.Server | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if isinstance(server, config.Server):
        return server.model_dump(exclude_unset=True)
    return server or {}
