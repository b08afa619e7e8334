"""Keeps the served pipelines in step with their documents."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from headrace.pipeline import Catalog, Reload
from services.router.pipelines import Pipelines


class Report(Protocol):
    """Where changes of what is served are counted."""

    def serves(self, pipeline: str, version: int) -> None: ...
    def no_longer_serves(self, pipeline: str) -> None: ...
    def refused(self) -> None: ...


class Reloading:
    """Looks at the documents every `every_s` seconds. One that is wrong is reported; its old revision stays.

    `log`: a structlog logger.
    """

    def __init__(
        self, catalog: Catalog, pipelines: Pipelines, report: Report, log: Any, every_s: float
    ) -> None:
        self._catalog = catalog
        self._pipelines = pipelines
        self._report = report
        self._log = log
        self._every_s = every_s
        self._lock = asyncio.Lock()
        self._adopt(Reload(changed=tuple(catalog.pipelines)))

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Looks at the documents now."""
        async with self._lock:
            # Reading files blocks; parsing takes milliseconds that calls in flight should not wait for.
            self._adopt(await asyncio.to_thread(self._catalog.reload))

    def _adopt(self, reload: Reload) -> None:
        for problem in reload.problems:
            self._log.warning("pipeline document refused, the old revision stays", problem=str(problem))
        if reload.problems:
            self._report.refused()
        if not reload.changed and not reload.removed:
            return
        self._pipelines.replace(self._catalog.pipelines)
        for name in reload.changed:
            pipeline = self._catalog.pipelines[name]
            self._report.serves(name, pipeline.version)
            self._log.info(
                "pipeline served", pipeline=name, version=pipeline.version, revision=pipeline.revision
            )
        for name in reload.removed:
            self._report.no_longer_serves(name)
            self._log.info("pipeline no longer served", pipeline=name)
