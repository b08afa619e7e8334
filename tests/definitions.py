"""Definitions of services that are nothing but their servicers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from headrace.hop import Definition, Runtime, Service
from headrace.hop.config import ServiceSettings


def definition_of(name: str, *services: Service) -> Definition[ServiceSettings]:
    @asynccontextmanager
    async def build(settings: ServiceSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
        yield services

    return Definition(name, ServiceSettings, build)
