"""What the process of an ingress has besides the ingress: telemetry, and the services hosted with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import ValidationError

from headrace.hop import config
from headrace.hop.definition import Runtime
from headrace.hop.process.heartbeat import beating
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.hosting import Part, definition_named, hosted
from headrace.hop.transport.in_process import LocalServers
from services.ingress.config import IngressSettings


@asynccontextmanager
async def hosting(settings: IngressSettings) -> AsyncIterator[Runtime]:
    """The runtime of this process, with the services of `settings.together` in it, found by entry point.

    Raises config.ConfigError for a service that is not installed, or settings that it does not take.
    """
    parts = [_part(name, values) for name, values in settings.together.items()]
    telemetry = Telemetry("ingress", settings.telemetry)
    telemetry.take_over_logs()
    local = LocalServers(telemetry)
    try:
        async with hosted(parts, telemetry, local):
            with beating(telemetry):
                yield Runtime("ingress", telemetry, local)
    finally:
        await telemetry.close()


def _part(name: str, values: dict[str, object]) -> Part:
    definition = definition_named(name)
    try:
        settings: config.ServiceSettings = definition.config.model_validate(values)
    except ValidationError as error:
        wrong = [f"{'.'.join(('together', name, *map(str, e['loc'])))}: {e['msg']}" for e in error.errors()]
        raise config.ConfigError("; ".join(wrong)) from error
    return definition, settings
