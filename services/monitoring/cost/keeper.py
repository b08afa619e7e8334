"""The task that keeps the ledger. Nothing waits for it, and it goes on after whatever happens."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from headrace.cost import PricesFile
from headrace.hop.config import ConfigError
from services.monitoring.cost.collector import Collected, Collector
from services.monitoring.cost.from_events import CostObserver
from services.monitoring.cost.metrics import CostMetrics
from services.monitoring.cost.processes import TargetsError
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

# In a row: at the first start of all, the file that names the processes is not there yet.
_TOLD_AFTER = 2


class CostKeeper:
    """Until cancelled, `run` writes one interval after another; then once more, so that nothing is left."""

    def __init__(
        self,
        collector: Collector,
        observer: CostObserver,
        prices: PricesFile,
        metrics: CostMetrics,
        log: Log,
        every_s: float,
    ) -> None:
        self._collector = collector
        self._observer = observer
        self._prices = prices
        self._metrics = metrics
        self._log = log
        self._every_s = every_s
        # One interval at a time.
        self._thread = ThreadPoolExecutor(1, "cost")
        self._failed = self._mistake = ""
        self._failures = 0
        self._pipelines: set[str] = set()

    async def run(self) -> None:
        """Keeps the ledger until cancelled."""
        while True:
            await self.collect()
            await asyncio.sleep(self._every_s)

    async def collect(self) -> None:
        """Writes what there is now. What fails is counted and said once; its work is written the next time."""
        work = self._observer.take()
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, self._collector.collect, work)
        except Exception as error:  # noqa: BLE001 - the loop must go on
            self._observer.put_back(work)
            known = isinstance(error, TargetsError | StorageError | ConfigError)
            self._fails(str(error) if known else f"{type(error).__name__}: {error}")
        else:
            if (
                found is None
            ):  # a beginning, before which nothing was measured: its rows go with the first interval
                self._observer.put_back(work)
            self._works(found)
        self._tell_prices()

    def budget(self, pipeline: str) -> float | None:
        """What 1,000 rows of a pipeline may cost."""
        budget = self._prices.prices.budget
        return budget.pipelines.get(pipeline, budget.per_1000)

    async def close(self) -> None:
        """Writes what is left."""
        with suppress(asyncio.CancelledError):
            await self.collect()
        self._thread.shutdown(wait=False)

    def _works(self, found: Collected | None) -> None:
        self._failures = 0
        if self._failed:
            self._failed = ""
            self._metrics.failing.set(0)
            self._log.info("the ledger of cost is written again")
        if found is not None:
            self._metrics.silent.set(found.asked - found.answered)
            self._metrics.charged(found.charges, found.bills)
            self._pipelines |= {charge.key.pipeline for charge in found.charges}

    def _fails(self, why: str) -> None:
        self._failures += 1
        if self._failures < _TOLD_AFTER:
            return
        self._metrics.failing.set(1)
        if why != self._failed:
            self._failed = why
            self._log.warning("the ledger of cost is not written", error=why)

    def _tell_prices(self) -> None:
        problem = self._prices.problem
        self._metrics.prices_broken.set(bool(problem))
        self._metrics.budgets(self._prices.prices, self._pipelines)
        if problem and problem != self._mistake:
            self._log.error("the prices can't be used", error=problem)
        elif self._mistake and not problem:
            self._log.info("the prices are used again")
        self._mistake = problem
