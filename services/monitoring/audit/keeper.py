"""The task that keeps the audit log. No request waits for it, and it goes on after whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import ParamSpec, TypeVar

from headrace.audit import AccessError, Collector, LogBusyError, Writer
from headrace.audit.persons.erasure import expire
from headrace.audit.settings import Audit
from headrace.audit.witness import Asked, WitnessError
from headrace.hop.definition import Runtime
from services.monitoring.audit.metrics import AuditMetrics
from services.monitoring.audit.shared_chain import copied
from services.monitoring.ports import Log

P = ParamSpec("P")
R = TypeVar("R")
# After this long it is tried again: to get the lock, to open a log that does not hold, to write to a full disk.
_RETRY_S = 5.0
_EXPIRE_S = 60.0
_WHO = "headrace (retention)"


class AuditKeeper:
    """Until cancelled, `run` keeps the log, if no other process of this home does. `monotonic`: seconds."""

    def __init__(
        self,
        audit: Audit,
        metrics: AuditMetrics,
        log: Log,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._audit = audit
        self._metrics = metrics
        self._log = log
        self._monotonic = monotonic
        self._sleep = sleep
        # The log is one thread's at a time; a witness that hangs must not hold it up.
        self._thread = ThreadPoolExecutor(1, "audit")
        self._asking = ThreadPoolExecutor(1, "witnesses")
        self._failed = ""
        self._opened: tuple[Writer, Collector] | None = None

    async def run(self) -> None:
        """Keeps the log until cancelled."""
        witnesses = asyncio.create_task(self._witnesses())
        try:
            while True:
                with suppress(LogBusyError):  # another process does; this one stands by
                    await self._kept()
                await self._sleep(_RETRY_S)
        finally:
            witnesses.cancel()
            await asyncio.gather(witnesses, return_exceptions=True)
            # After what the thread does now, also if that is opening the log.
            await asyncio.shield(self._on(self._close))
            self._thread.shutdown(wait=False)
            self._asking.shutdown(wait=False)

    async def _kept(self) -> None:
        """Opens the log and keeps it until something goes wrong that only opening it again may mend. Raises LogBusyError."""
        try:
            writer, collector = await self._on(self._open)
        except LogBusyError:
            raise
        except Exception as error:  # noqa: BLE001 - the loop must go on
            self._failing(error)
            return
        self._metrics.leads.set(1)
        try:
            await self._collect(writer, collector)
        except Exception as error:  # noqa: BLE001 - the loop must go on
            self._failing(error)
        finally:
            await asyncio.shield(self._on(self._close))

    async def _collect(self, writer: Writer, collector: Collector) -> None:
        settings = self._audit.settings
        published, expired = self._monotonic(), -_EXPIRE_S
        while True:
            before = writer.size
            failed = await self._tried(collector.collect)
            now = self._monotonic()
            # What the others have is signed and kept in bounds, also while one journal can't be read.
            if writer.uncovered and now - published >= settings.checkpoint_s:
                why = await self._tried(collector.publish)
                failed, published = why or failed, published if why else now
            if now - expired >= _EXPIRE_S:
                why = await self._tried(self._expire)
                failed, expired = why or failed, expired if why else now
            self._metrics.entries.set(writer.size)
            self._metrics.uncovered.set(writer.uncovered)
            self._metrics.gaps.set(collector.gaps)
            if failed is not None:
                self._failing(failed)
                await self._sleep(_RETRY_S)
            else:
                self._fine()
                if writer.size == before:
                    await self._sleep(settings.poll_s)

    async def _tried(self, what: Callable[[], object]) -> Exception | None:
        """What went wrong, of that which may go well the next time."""
        try:
            await self._on(what)
        except (OSError, AccessError) as error:
            return error
        return None

    def _open(self) -> tuple[Writer, Collector]:
        self._opened = self._audit.collecting()
        return self._opened

    def _close(self) -> None:
        """What is on the disk gets its checkpoint now; if it can't, the next writer signs it."""
        self._metrics.leads.set(0)
        if (opened := self._opened) is None:
            return
        self._opened, (writer, collector) = None, opened
        try:
            with suppress(OSError):
                collector.publish()
        finally:
            writer.close()

    def _expire(self) -> None:
        first_kept = (self._audit.clock() - timedelta(days=self._audit.settings.persons_days)).date()
        most = self._audit.settings.persons_bytes
        for segment in expire(self._audit.payloads, self._audit.access, _WHO, first_kept, most):
            self._log.info("lines that tell of persons are deleted, for their age or size", segment=segment)

    async def _witnesses(self) -> None:
        """Has each new checkpoint signed."""
        said: dict[str, str] = {}
        loop = asyncio.get_running_loop()
        while True:
            await self._sleep(self._audit.settings.checkpoint_s)
            try:
                for client in await loop.run_in_executor(self._asking, self._audit.witnesses):
                    why = await loop.run_in_executor(self._asking, self._submitted, client)
                    if why != said.get(client.name, ""):
                        self._log.error(why) if why else self._log.info("signed again", witness=client.name)
                    said[client.name] = why
            except Exception as error:  # noqa: BLE001 - the loop must go on
                if said.get("") != str(error):
                    self._log.error("witnesses can't be asked", error=f"{type(error).__name__}: {error}")
                said[""] = str(error)

    def _submitted(self, client: Asked) -> str:
        """What went wrong; empty: nothing."""
        why, refused = "", False
        try:
            client.submit()
        except FileNotFoundError:
            return ""  # there is no checkpoint yet
        except (WitnessError, OSError) as error:
            why, refused = str(error), isinstance(error, WitnessError) and error.refused
        self._metrics.refused.labels(client.name).set(refused)
        self._metrics.unreachable.labels(client.name).set(bool(why) and not refused)
        return why

    def _failing(self, error: Exception) -> None:
        self._metrics.failing.set(1)
        text = f"{type(error).__name__}: {error}"
        if text != self._failed:
            self._failed = text
            self._log.error("the audit log is not kept; journals keep what comes", error=text)

    def _fine(self) -> None:
        self._metrics.failing.set(0)
        if self._failed:
            self._failed = ""
            self._log.info("the audit log is kept again")

    async def _on(self, what: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Runs it on the log's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: what(*arguments, **options))


@asynccontextmanager
async def kept(audit: Audit | None, runtime: Runtime, releases: str | None = None) -> AsyncIterator[None]:
    """Keeps the audit log meanwhile; None: there is none. `releases`: where they are; what machines share there joins the log.

    Raises ConfigError.
    """
    if audit is None:
        yield
        return
    log = runtime.telemetry.log
    keeper = AuditKeeper(audit, runtime.telemetry.once(AuditMetrics), log, time.monotonic)
    task = asyncio.create_task(keeper.run())
    task.add_done_callback(lambda ended: _tell_end(ended, log))
    try:
        async with copied(audit.shared, releases, runtime):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _tell_end(task: asyncio.Task[None], log: Log) -> None:
    """A bug ended it: journals keep what comes until this process is restarted, and somebody must hear of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the keeper of the audit log stopped", error=f"{type(error).__name__}: {error}")
