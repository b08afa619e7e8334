"""Counts of this home's files that are sealed, plain, or locked, as metrics: looked at each minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Gauge

from headrace.encryption import KeysAwayError, Sealer, Store
from headrace.encryption.census import Census, Tally
from headrace.hop.definition import Runtime
from services.monitoring.ports import Log

_EVERY_S = 60.0
_STATES = ("sealed", "plain", "locked", "damaged", "unreadable")


class SealedFileMetrics:
    """Labels are names of our kinds of files, and fixed words."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.files = Gauge(
            "headrace_encryption_files",
            "Files by state: sealed, plain (something in it is), locked (its key is not here), damaged, unreadable.",
            ["store", "state"],
            registry=registry,
        )


class SealedFileWatch:
    """Until cancelled, `run` counts. It goes on after whatever happens. `sealer` None: no keys are set, so what is sealed is
    locked."""

    def __init__(
        self,
        stores: Sequence[Store],
        sealer: Sealer | None,
        metrics: SealedFileMetrics,
        log: Log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._stores = stores
        self._sealer = sealer
        self._metrics = metrics
        self._log = log
        self._sleep = sleep
        self._census = Census()
        self._said: dict[str, str] = {}
        # A token or disk that hangs must hold up nobody else.
        self._thread = ThreadPoolExecutor(1, "sealed-files")

    async def run(self) -> None:
        """Counts until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                for store in self._stores:
                    try:
                        self._tell(store.name, await loop.run_in_executor(self._thread, self._tally, store))
                    except KeysAwayError:
                        pass  # EncryptionMetrics tells that; what was counted last is told on
                    except Exception as error:  # noqa: BLE001 - the loop must go on
                        self._say(store.name, f"its files can't be counted: {type(error).__name__}: {error}")
                await self._sleep(_EVERY_S)
        finally:
            self._thread.shutdown(wait=False)

    def _tally(self, store: Store) -> Tally:
        if self._sealer is None:
            return self._census.tally(store, ())
        return self._census.counted(store, self._sealer.keys.kms.versions)

    def _tell(self, name: str, tally: Tally) -> None:
        for state in _STATES:
            self._metrics.files.labels(name, state).set(getattr(tally, state))
        self._say(name, f"{tally.locked} files are locked: their key is not here" if tally.locked else "")

    def _say(self, name: str, text: str) -> None:
        if text and text != self._said.get(name):
            self._log.error(text, store=name)
        self._said[name] = text


@asynccontextmanager
async def counted(stores: Sequence[Store], sealer: Sealer | None, runtime: Runtime) -> AsyncIterator[None]:
    """Counts the files of these stores meanwhile."""
    telemetry = runtime.telemetry
    watch = SealedFileWatch(stores, sealer, telemetry.once(SealedFileMetrics), telemetry.log)
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
