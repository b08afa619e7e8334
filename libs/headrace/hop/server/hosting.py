"""Several services in one process: found by entry point, called without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import entry_points
from typing import Any

from headrace.hop import config
from headrace.hop.definition import Definition, Runtime, warm_up
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.transport.in_process import LocalServers

GROUP = "headrace.services"
Part = tuple[Definition[Any], config.ServiceSettings]


def definition_named(name: str) -> Definition[Any]:
    """The installed service of that name. Raises config.ConfigError that lists the installed ones."""
    found = entry_points(group=GROUP)
    if name not in found.names:
        raise config.ConfigError(
            f"no service {name!r} is installed; there are: {', '.join(sorted(found.names))}"
        )
    definition = found[name].load()
    if not isinstance(definition, Definition):
        raise config.ConfigError(f"entry point {GROUP}:{name} is no hop Definition")
    return definition


@asynccontextmanager
async def hosted(
    parts: Sequence[Part], telemetry: Telemetry, local: LocalServers | None = None
) -> AsyncIterator[LocalServers]:
    """Builds the services into one LocalServers; leaving waits for their calls in flight, then closes them.

    Services that call others in this process are built last (so that a warm-up finds its callees) and closed
    first; otherwise the given order holds.
    """
    servers = local or LocalServers(telemetry)
    async with AsyncExitStack() as stack:
        for definition, settings in leaves_first(parts):
            await stack.enter_async_context(
                _one(definition, settings, telemetry.named(definition.name), servers)
            )
        yield servers


def leaves_first(parts: Iterable[Part]) -> list[Part]:
    """The parts; those with a client of target `local` come last."""
    return sorted(parts, key=lambda part: dials_locally(part[1]))


def dials_locally(settings: config.Settings) -> bool:
    """Whether the settings hold a client of a service in the same process."""
    for _, value in settings:
        if isinstance(value, config.ClientSettings | config.CalleeSettings) and value.target == "local":
            return True
        if isinstance(value, config.Settings) and dials_locally(value):
            return True
    return False


@asynccontextmanager
async def _one(
    definition: Definition[Any], settings: config.ServiceSettings, telemetry: Telemetry, servers: LocalServers
) -> AsyncIterator[None]:
    runtime = Runtime(definition.name, telemetry, servers)
    async with definition.build(settings, runtime) as services:
        await warm_up(services)
        servers.add(definition.name, services, settings.server, telemetry)
        telemetry.ready(True)
        try:
            yield
        finally:
            telemetry.ready(False)
            for service in services:
                if service.end_waits is not None:
                    service.end_waits()
            await servers.remove(definition.name, settings.server.drain_s)
