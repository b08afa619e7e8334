"""Keeps the plans up to date with the registry, outside the request path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from services.features.plan.plan import ServicePlan
from services.features.stores.online_store import StoreError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Catalog:
    """The plans of a registry. They are replaced all at once; if it can't be read, the last plans stay in use.

    `plans`: reads the registry; it blocks, and raises StoreError.
    """

    def __init__(
        self,
        plans: Callable[[], Mapping[str, ServicePlan]],
        threads: ThreadPoolExecutor,
        log: FilteringBoundLogger,
    ) -> None:
        self._read_plans = plans
        self._threads = threads
        self._log = log
        # By the name of the feature service.
        self.plans: Mapping[str, ServicePlan] = {}

    async def load(self) -> None:
        """Reads the registry. Raises StoreError."""
        loop = asyncio.get_running_loop()
        plans = await loop.run_in_executor(self._threads, self._read_plans)
        for name, plan in plans.items():
            known = self.plans.get(name)
            if known is None or known.revision != plan.revision:
                self._log.info("feature service planned", feature_service=name, revision=plan.revision)
                if plan.unreadable:
                    self._log.warning(
                        "a feature service can't be read", feature_service=name, why=plan.unreadable
                    )
        self.plans = plans

    async def follow(self, every_s: float) -> None:
        """Reads the registry again every `every_s` seconds, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.load()
            except Exception as error:  # noqa: BLE001 - a registry may hold anything, and the next read must happen
                self._log.warning(
                    "the registry can't be read; the last plans stay in force",
                    error=str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}",
                )
