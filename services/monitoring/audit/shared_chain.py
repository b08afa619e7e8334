"""Copies the audit of releases that machines share in Redis into the home, where the audit log takes it up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from headrace.audit.settings import utc_now
from headrace.hop.config import ConfigError
from headrace.hop.definition import Runtime
from headrace.releases.place import PlaceError, open_store
from headrace.releases.records import SharedCopy
from headrace.releases.records.shared import SharedChain
from headrace.releases.redis import RedisReleases
from services.monitoring.audit.metrics import AuditMetrics
from services.monitoring.ports import Log

_LOOK_S = 1.0
# How often lines that were copied before are compared with those that Redis has now.
_WHOLE_S = 3600.0


class SharedChainKeeper:
    """Until cancelled, `run` copies what is new. `monotonic`: seconds."""

    def __init__(
        self,
        copy: SharedCopy,
        metrics: AuditMetrics,
        log: Log,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._copy = copy
        self._metrics = metrics
        self._log = log
        self._monotonic = monotonic
        self._sleep = sleep
        # A Redis that hangs must hold up nobody else.
        self._thread = ThreadPoolExecutor(1, "shared-audit")
        self._failed = ""
        self._gaps = 0

    async def run(self) -> None:
        """Copies until cancelled."""
        loop, compared = asyncio.get_running_loop(), -_WHOLE_S
        try:
            while True:
                now = self._monotonic()
                whole = now - compared >= _WHOLE_S
                try:
                    await loop.run_in_executor(self._thread, partial(self._copy.follow, whole=whole))
                    compared = now if whole else compared
                    self._told("")
                except Exception as error:  # noqa: BLE001 - the loop must go on
                    self._told(f"{type(error).__name__}: {error}")
                await self._sleep(_LOOK_S)
        finally:
            self._thread.shutdown(wait=False)

    def _told(self, error: str) -> None:
        self._metrics.shared_failing.set(bool(error))
        if self._copy.gaps > self._gaps:
            self._gaps = self._copy.gaps
            self._log.error("the audit that machines share in Redis is not as it was; the audit log says how")
        self._metrics.shared_gaps.set(self._copy.gaps)
        if error and error != self._failed:
            self._log.error(
                "the audit that machines share in Redis is not copied; it is tried again", error=error
            )
        elif self._failed and not error:
            self._log.info("the audit that machines share in Redis is copied again")
        self._failed = error


@asynccontextmanager
async def copied(path: Path, releases: str | None, runtime: Runtime) -> AsyncIterator[None]:
    """Copies into `path` meanwhile, if the releases at `releases` are in a Redis. Raises ConfigError."""
    if releases is None or "://" not in releases:
        yield
        return
    try:
        store = open_store(releases)
    except PlaceError as error:
        raise ConfigError(f"releases: {error}") from None
    assert isinstance(store, RedisReleases), "what has an address is a Redis"
    log = runtime.telemetry.log
    copy = SharedCopy(SharedChain(store), path, utc_now)
    keeper = SharedChainKeeper(copy, runtime.telemetry.once(AuditMetrics), log, time.monotonic)
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(store.close)
