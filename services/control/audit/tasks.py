"""The tasks that follow journals and export the head. They go on after whatever happens; no request waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Gauge

from headrace.audit import heads
from headrace.audit.journals import Journal
from headrace.catalog.access import Position, Records
from headrace.catalog.errors import RecordsError
from services.control.audit.follower import JournalFollower
from services.control.audit.settings import AuditSettings
from services.control.health import Failures

T = TypeVar("T")
_EXPIRE_S = 60.0
_WALL = time.time  # noqa: TID251 - files have dates


class AuditMetrics:
    """How the audit is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.failing = Gauge(
            "headrace_audit_failing",
            "1 while a journal can't be followed into the audit; journals hold what comes.",
            registry=registry,
        )
        self.gaps = Gauge(
            "headrace_audit_gaps",
            "How often a journal was not there, not whole or altered when it was read, since this process began.",
            registry=registry,
        )
        self.export_failing = Gauge(
            "headrace_audit_export_failing",
            "1 while the signed head can't be written to the folder outside.",
            registry=registry,
        )


class AuditTasks:
    """`position`: the newest one that is published; None: nothing is. `may_change`: whether changes are accepted. `sign`: by
    control's key."""

    def __init__(
        self,
        settings: AuditSettings,
        records: Callable[[], Records],
        position: Callable[[], Position | None],
        may_change: Callable[[], bool],
        sign: Callable[[bytes], bytes],
        metrics: AuditMetrics,
        log: Any,
    ) -> None:
        self._settings = settings
        self._position = position
        self._may_change = may_change
        self._sign = sign
        self._metrics = metrics
        self._log = log
        journals = [Journal(name, path) for name, path in sorted(settings.journals.items())]
        age_s, size = settings.retention_days * 86_400, settings.retention_bytes
        # A folder of another machine may hang, and nothing else may wait for it.
        self._journals, self._heads = ThreadPoolExecutor(1, "journals"), ThreadPoolExecutor(1, "heads")
        self._follower = JournalFollower(records, journals, self._gap, _WALL, age_s, size)

    def all(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Those that the settings want; each runs until it is cancelled."""
        wanted = []
        if self._settings.journals:
            wanted.append(self._follow())
        if self._settings.exported is not None:
            wanted.append(self._export())
        return wanted

    def close(self) -> None:
        """Waits for nothing: what is under way is done as a whole, or not at all."""
        for thread in (self._journals, self._heads):
            thread.shutdown(wait=False)

    async def _follow(self) -> None:
        failed = Failures(self._metrics.failing, self._log).of("a journal of the audit")
        expired = -_EXPIRE_S
        while True:
            more = False
            if self._may_change():
                try:
                    more = await _on(self._journals, self._follower.follow)
                    if time.monotonic() - expired >= _EXPIRE_S:
                        await _on(self._journals, self._follower.expire)
                        expired = time.monotonic()
                    failed(None)
                except (RecordsError, OSError, ValueError) as error:
                    failed(error)
            if not more:
                await asyncio.sleep(self._settings.poll_s)

    async def _export(self) -> None:
        failed = Failures(self._metrics.export_failing, self._log).of("the folder for signed heads")
        while True:
            try:
                await _on(self._heads, self._export_once)
                failed(None)
            except (OSError, ValueError) as error:
                failed(error)
            await asyncio.sleep(self._settings.export_s)

    def _export_once(self) -> None:
        at, folder = self._position(), self._settings.exported
        if at is not None and folder is not None:
            heads.export(folder, at.epoch, at.number, at.head, datetime.now(UTC), self._sign)

    def _gap(self, journal: str, problem: str) -> None:
        self._metrics.gaps.inc()
        self._log.error("a journal of the audit is not as it was", journal=journal, why=problem)


async def _on(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, work)
