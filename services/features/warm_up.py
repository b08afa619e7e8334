"""Warm-up: reads every feature service before the first call.

A first read connects, compiles statements, reads pages from the disk and runs code for the first time. It takes 6 ms, later
reads 0.3 ms (Redis, idle machine). While other services start too, it takes more than the 50 ms that a read may take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.features.plan.plan import ServicePlan
from services.features.stores.online_store import FeastFallback, KeyQuery, OnlineStore, StoreError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# Rows: a single request, a batch, and a batch so large that SQLite is read in a thread.
_SIZES = (1, 16, 300)


@dataclass(frozen=True, slots=True)
class WarmUpLimits:
    """A read is fast enough if it takes at most `good_s`. Slower reads are repeated, for at most `limit_s` in total."""

    good_s: float
    limit_s: float


class WarmUp:
    """Reads without a call, bypassing cache, breaker and metrics. A failure does not stop the service from starting."""

    def __init__(
        self, store: OnlineStore, stock: FeastFallback, clock: Callable[[], float], log: FilteringBoundLogger
    ) -> None:
        """`clock`: monotonic seconds."""
        self._store = store
        self._stock = stock
        self._clock = clock
        self._log = log

    async def warm(self, plans: Iterable[ServicePlan], patience: WarmUpLimits) -> bool:
        """Returns whether all plans can be read fast enough."""
        began = self._clock()
        until = began + patience.limit_s
        why = ""
        for plan in plans:
            for rows in _SIZES:
                found = await self._until_good(plan, rows, patience.good_s, until)
                why = why or found
        took_ms = round((self._clock() - began) * 1000)
        if why:
            self._log.warning("serving starts, but the store can't be read well", why=why, waited_ms=took_ms)
        else:
            self._log.info("the store was read in good time", warm_up_ms=took_ms)
        return not why

    async def _until_good(self, plan: ServicePlan, rows: int, good_s: float, until: float) -> str:
        """Why the last read was not good; "" if a read was fast enough."""
        why = "there was no time to read it"
        while (began := self._clock()) < until:
            try:
                await self._read(plan, rows, until - began)
            except StoreError as error:
                return f"{plan.name}: {error}"
            if (took := self._clock() - began) <= good_s:
                return ""
            why = f"reading {rows} rows takes {took * 1000:.0f} ms"
        return f"{plan.name}: {why}"

    async def _read(self, plan: ServicePlan, rows: int, timeout_s: float) -> None:
        if plan.fallback:
            nothing = {feature.name: [None] * rows for feature in plan.fallback_inputs}
            await self._stock.read(plan, nothing, rows, timeout_s)
        else:
            await self._store.read(_asks(plan, rows), timeout_s)


def _asks(plan: ServicePlan, rows: int) -> list[KeyQuery]:
    """Queries for entities that no store has. Views with the same keys share one list, as in a real batch."""
    keys = [[view.key_prefix + b"%d" % n for n in range(rows)] for view in plan.key_views]
    return [KeyQuery(view, keys[group]) for view, group in zip(plan.views, plan.key_groups, strict=True)]
