"""Reads every feature service once before the first caller does.

A first read connects, compiles statements, fetches pages from the disk and runs code that never ran: 6 ms where later ones
take 0.3 (Redis, an idle machine), and more than the 50 allowed while everything else starts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.features.plan.catalog import Log
from services.features.plan.plan import ServicePlan
from services.features.stores.online_store import FeastFallback, KeyQuery, OnlineStore, StoreError

# One request, a batch, and one so large that SQLite is read in a thread.
_SIZES = (1, 16, 300)


@dataclass(frozen=True, slots=True)
class WarmUpLimits:
    """A read is good that takes `good_s`; it is tried again until then, but for no more than `limit_s` in all."""

    good_s: float
    limit_s: float


class WarmUp:
    """Reads what nobody asked for, past memory, breaker and metrics. Nothing that goes wrong is an obstacle."""

    def __init__(
        self, store: OnlineStore, stock: FeastFallback, clock: Callable[[], float], log: Log
    ) -> None:
        """`clock`: monotonic seconds."""
        self._store = store
        self._stock = stock
        self._clock = clock
        self._log = log

    async def warm(self, plans: Iterable[ServicePlan], patience: WarmUpLimits) -> bool:
        """Whether all of them can be read in good time."""
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
        """What was wrong at last; "" if a read was good."""
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
    """Entities that no store has. Views with the same keys have the same list, as those of a batch do."""
    keys: list[list[bytes]] = []
    for i, (view, group) in enumerate(zip(plan.views, plan.key_groups, strict=True)):
        keys.append([view.key_prefix + b"%d" % n for n in range(rows)] if group == i else keys[group])
    return [KeyQuery(view, its) for view, its in zip(plan.views, keys, strict=True)]
