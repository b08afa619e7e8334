"""Serves what the pipeline documents say, also after they change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from headrace.pipeline import Catalog, Reload
from services.router.pipelines import Pipelines


class ReloadMetrics(Protocol):
    """Counts changes of what is served; see `metrics.Metrics`."""

    def serves(self, pipeline: str, version: int) -> None: ...
    def no_longer_serves(self, pipeline: str) -> None: ...
    def refused(self) -> None: ...
    def quarantined(self, pipelines: Mapping[str, bool]) -> None: ...


class DocumentReloader:
    """Reads changed documents every `every_s` seconds. A broken one is reported, and its last good revision goes on serving.

    `log`: a structlog logger.
    """

    def __init__(
        self, catalog: Catalog, pipelines: Pipelines, metrics: ReloadMetrics, log: Any, every_s: float
    ) -> None:
        self._catalog = catalog
        self._pipelines = pipelines
        self._metrics = metrics
        self._log = log
        self._every_s = every_s
        self._lock = asyncio.Lock()
        self._adopt(catalog.first)

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - the loop must go on: the next time may succeed
                self._log.error("pipeline documents not read", error=f"{type(error).__name__}: {error}")

    async def refresh(self) -> None:
        """Reads changed documents now."""
        async with self._lock:
            # In a thread: reading files blocks, and parsing takes milliseconds for which calls in flight would wait.
            self._adopt(await asyncio.to_thread(self._catalog.reload))

    def _adopt(self, reload: Reload) -> None:
        if reload == Reload():
            return
        quarantined = self._catalog.quarantined.values()
        for problem in reload.problems:
            self._log.error("pipeline document quarantined", problem=str(problem))
        for entry in quarantined if reload.problems else ():
            serves = entry.serves.version if entry.serves else None
            self._log.warning("pipeline in quarantine", pipeline=entry.name, serves_version=serves)
        for name in reload.cleared:
            self._log.info("pipeline out of quarantine", pipeline=name)
        if reload.problems:
            self._metrics.refused()
        self._metrics.quarantined({q.name: q.serves is not None for q in quarantined})
        self._pipelines.replace(self._catalog.pipelines, self._catalog.unusable)
        for name in reload.changed:
            pipeline = self._catalog.pipelines[name]
            self._metrics.serves(name, pipeline.version)
            self._log.info(
                "pipeline served", pipeline=name, version=pipeline.version, revision=pipeline.revision
            )
        for name in reload.removed:
            self._metrics.no_longer_serves(name)
            self._log.info("pipeline no longer served", pipeline=name)
