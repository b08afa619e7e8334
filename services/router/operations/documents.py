"""Serves what is live, also after it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from headrace.releases.catalog import Released
from headrace.resources.releases import ReleaseCatalog, Reload
from services.router.metrics import Metrics
from services.router.operations.readiness import ModelReadiness
from services.router.pipelines import Pipelines

# While a release waits for its models: they are ready within seconds, and its author waits too.
_WAITING_S = 0.25
# Else a change ends the wait: the time only bounds how long one that was missed stays so.
_UNCHANGED_S = 60.0
_AFTER_FAILURE_S = 1.0


class DocumentReloader:
    """Follows the releases. What is broken is reported, and the last good one goes on serving.

    A release whose models the executor does not have yet waits, and the one before serves on. `log`: a structlog logger.
    """

    def __init__(
        self,
        source: ReleaseCatalog,
        pipelines: Pipelines,
        metrics: Metrics,
        log: Any,
        readiness: ModelReadiness | None = None,
    ) -> None:
        self._source = source
        self._pipelines = pipelines
        self._metrics = metrics
        self._log = log
        self._readiness = readiness
        self._lock = asyncio.Lock()
        # Pipeline → what its newest release waits for.
        self._waiting: dict[str, str] = {}
        # Set once it is known what is live.
        self._known = asyncio.Event()
        self._report(source.first)
        self._serve(source.released)

    async def ready(self) -> None:
        """Returns once what is live serves: a router that knows nothing is not ready."""
        await self._known.wait()

    async def run(self) -> None:
        """Runs until cancelled."""
        seen = ""
        while True:
            try:
                pause = _WAITING_S if self._waiting else _UNCHANGED_S
                seen = await asyncio.to_thread(self._source.wait, seen, pause)
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - the loop must go on: the next time may succeed
                self._log.error("what is live was not read", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def refresh(self, *, must_wait: bool = True) -> None:
        """Reads changes now. `must_wait` False: a caller knows already that the models of the newest release are ready."""
        async with self._lock:
            found = self._source.reload()
            if found == Reload() and not self._waiting and self._known.is_set():
                return
            self._report(found)
            self._serve(await self._ready(self._source.released, must_wait=must_wait))

    async def _ready(self, wanted: Mapping[str, Released], *, must_wait: bool) -> dict[str, Released]:
        """What to serve now: of a pipeline whose release has to wait, what serves already."""
        serving, ready, waiting = self._pipelines.current(), dict(wanted), dict[str, str]()
        for name, found in wanted.items():
            old = serving[name].source if name in serving else None
            if self._readiness is None or old is None or old is found or not must_wait:
                continue
            if missing := await self._readiness.missing(found, old):
                ready[name], waiting[name] = old, missing
        for name, why in waiting.items():
            if self._waiting.get(name) != why:
                self._log.warning("release waits", pipeline=name, release=wanted[name].number, why=why)
        self._waiting = waiting
        self._metrics.waiting(waiting)
        return ready

    def _report(self, found: Reload) -> None:
        quarantined = self._source.quarantined.values()
        for problem in found.problems:
            self._log.error("pipeline document quarantined", problem=str(problem))
        for entry in quarantined if found.problems else ():
            serves = entry.serves.version if entry.serves else None
            self._log.warning("pipeline in quarantine", pipeline=entry.name, serves_version=serves)
        for name in found.cleared:
            self._log.info("pipeline out of quarantine", pipeline=name)
        self._metrics.quarantined({q.name: q.serves is not None for q in quarantined})

    def _serve(self, wanted: Mapping[str, Released]) -> None:
        before = dict(self._pipelines.current())
        self._pipelines.replace(wanted, self._source.unusable)
        if not self._source.troubles:
            self._known.set()
        for name, served in self._pipelines.current().items():
            if served is before.get(name):
                continue
            pipeline = served.pipeline
            self._metrics.serves(name, served.release)
            self._log.info(
                "pipeline served",
                pipeline=name,
                version=pipeline.version,
                revision=pipeline.revision,
                release=served.release,
            )
        for name in before.keys() - wanted.keys():
            self._metrics.no_longer_serves(name)
            self._log.info("pipeline no longer served", pipeline=name)
