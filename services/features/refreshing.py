"""Keeps the plans current with the registry, off the request path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from services.features.errors import unknown_service, unsupported_service
from services.features.planning import Plans, ServicePlan
from services.features.ports import Registry, StoreError


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def info(self, event: str, **values: object) -> object: ...
    def warning(self, event: str, **values: object) -> object: ...


class Catalog:
    """The plans of a registry. Swapped as a whole; a registry that can't be read leaves the last ones in force."""

    def __init__(
        self, registry: Registry, threads: ThreadPoolExecutor, log: Log, count: Callable[[str], None]
    ) -> None:
        """`count`: told "ok" or "failed" after each reading."""
        self._registry = registry
        self._threads = threads
        self._log = log
        self._count = count
        self._plans = Plans({}, {})

    def plan(self, name: str) -> ServicePlan:
        """The plan of a feature service. Raises Fault NOT_FOUND, or FAILED_PRECONDITION for one that can't be served."""
        plan = self._plans.services.get(name)
        if plan is None:
            if name in self._plans.refused:
                raise unsupported_service(name, self._plans.refused[name])
            raise unknown_service(name, list(self._plans.services))
        return plan

    async def load(self) -> None:
        """Reads the registry. Raises StoreError."""
        loop = asyncio.get_running_loop()
        plans = await loop.run_in_executor(self._threads, self._registry.plans)
        for name, why in plans.refused.items():
            if self._plans.refused.get(name) != why:
                self._log.warning("a feature service can't be served", feature_service=name, why=why)
        for name, plan in plans.services.items():
            known = self._plans.services.get(name)
            if known is None or known.revision != plan.revision:
                self._log.info("feature service planned", feature_service=name, revision=plan.revision)
        self._plans = plans

    async def follow(self, every_s: float) -> None:
        """Reads the registry again and again, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.load()
            except StoreError as error:
                self._count("failed")
                self._log.warning(
                    "the registry can't be read; the last plans stay in force", error=str(error)
                )
            else:
                self._count("ok")
