"""Warm-up: reads every feature service before the first call.

A first read connects, compiles statements, reads pages from the disk and runs code for the first time. It takes 6 ms, later
reads 0.3 ms (Redis, idle machine). While other services start too, it takes more than the 50 ms that a read may take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from services.features.plan.plan import ServicePlan
from services.features.stores.online_store import KeyQuery, OnlineStore, StoreError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# Rows: a single request, a batch, and a batch so large that SQLite is read in a thread.
_SIZES = (1, 16, 300)


async def warm_up(
    store: OnlineStore,
    plans: Iterable[ServicePlan],
    clock: Callable[[], float],
    log: FilteringBoundLogger,
    *,
    good_s: float,
    limit_s: float,
) -> bool:
    """Reads without a call, bypassing cache, breaker and metrics. Returns whether all plans can be read in `good_s`.

    Slower reads are repeated, for at most `limit_s` in total; a failure does not stop the start. `clock`: monotonic seconds.
    """
    began = clock()
    whys = [
        await _why_slow(store, plan, rows, clock, good_s, began + limit_s)
        for plan in plans
        if plan.views
        for rows in _SIZES
    ]
    took_ms = round((clock() - began) * 1000)
    if why := next(filter(None, whys), ""):
        log.warning("serving starts, but the store can't be read well", why=why, waited_ms=took_ms)
    else:
        log.info("the store was read in good time", warm_up_ms=took_ms)
    return not why


async def _why_slow(
    store: OnlineStore, plan: ServicePlan, rows: int, clock: Callable[[], float], good_s: float, until: float
) -> str:
    """Why the last read was not good; "" if a read was fast enough."""
    why = "there was no time to read it"
    while (began := clock()) < until:
        try:
            await store.read(_asks(plan, rows), until - began)
        except StoreError as error:
            return f"{plan.name}: {error}"
        if (took := clock() - began) <= good_s:
            return ""
        why = f"reading {rows} rows takes {took * 1000:.0f} ms"
    return f"{plan.name}: {why}"


def _asks(plan: ServicePlan, rows: int) -> list[KeyQuery]:
    """Queries for entities that no store has. Views with the same keys share one list, as in a real batch."""
    keys = [[view.key_prefix + b"%d" % n for n in range(rows)] for view in plan.key_views]
    return [KeyQuery(view, keys[group]) for view, group in zip(plan.views, plan.key_groups, strict=True)]
