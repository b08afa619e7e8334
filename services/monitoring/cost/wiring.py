"""What the cost ledger is made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.api.monitoring.v1 import cost_pb2
from headrace.cost import PricesFile
from headrace.hop.definition import Runtime, Service
from headrace.hop.process.background import running
from services.monitoring.cost import ledger
from services.monitoring.cost.collector import Collector
from services.monitoring.cost.from_events import CostObserver
from services.monitoring.cost.from_explanations import ExplanationCost
from services.monitoring.cost.keeper import CostKeeper
from services.monitoring.cost.metrics import CostMetrics
from services.monitoring.cost.servicer import CostServicer
from services.monitoring.cost.settings import CostSettings
from services.monitoring.database.facts import Facts

if TYPE_CHECKING:
    from services.monitoring.alerts.watch import Watch
    from services.monitoring.console.ports import PanelSource

_WALL = time.time  # noqa: TID251 - the ledger is by date
# A process that hangs must not hold up the others' readings.
_THREADS = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What the rest of the service needs: the observers of events, and the keeper; None: no cost is told. `accounts`: of hours
    that end after a time."""

    accounts: Callable[[float], Awaitable[Sequence[cost_pb2.CostAccount]]]
    observers: tuple[CostObserver, ...] = ()
    keeper: CostKeeper | None = None

    def explanations(self) -> ExplanationCost:
        """Takes what explanations cost."""
        return ExplanationCost(self.observers[0].put_back if self.observers else None)

    def panels(self) -> tuple[PanelSource, ...]:
        """Sections for the console, whose packages a service without one does not import."""
        from services.monitoring.cost.panel import CostPanel

        return () if self.keeper is None else (CostPanel(self.accounts, self.keeper.budget, _WALL),)

    def services(self) -> tuple[Service, ...]:
        """What operators ask."""
        descriptor = cost_pb2.DESCRIPTOR.services_by_name["CostService"]
        return () if self.keeper is None else (Service(descriptor, CostServicer(self.accounts)),)


@asynccontextmanager
async def counting_cost(
    settings: CostSettings, events: Path | None, facts: Facts, runtime: Runtime, watch: Watch
) -> AsyncIterator[Cost]:
    """Keeps the ledger meanwhile. `events`: the folder of stored events. `watch`: looks at what processes say."""
    accounts = partial(ledger.read_accounts, facts)
    if not settings.told:
        yield Cost(accounts)
        return
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(CostMetrics)
    prices = PricesFile(settings.prices)
    asking = ThreadPoolExecutor(_THREADS, "cost-readings")
    observer = CostObserver()
    collector = Collector(settings, events, prices, facts, _WALL, asking, seen=watch.evaluate)
    keeper = CostKeeper(collector, observer, prices, metrics, log, settings.every_s)
    try:
        async with running(keeper.run(), "ledger of cost", log):
            yield Cost(accounts, (observer,), keeper)
    finally:
        await keeper.close()
        asking.shutdown(wait=False)
