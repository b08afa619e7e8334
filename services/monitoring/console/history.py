"""Rates, failures and times of a pipeline's arms over days, of the stored events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from headrace.events import CODE, LATENCY_US, TIME_US
from headrace.releases import LIVE
from services.monitoring.events.store import EventStore

MAX_DAYS = 90
# Of each day, so that any span has 144 points and the one that goes on.
_STEP_S = 600
_ARMS = f"""
FROM events SELECT "{TIME_US}" // $2 AS step, "$arm" AS arm, count(*) / ($2 / 1e6) AS rows_per_s,
    count(*) FILTER ("{CODE}" <> 0) / count(*) AS error_share, approx_quantile("{LATENCY_US}", 0.95) / 1e3 AS p95_ms
WHERE "{TIME_US}" >= $1 AND NOT "$replayed" AND "$shadow_of" = '' GROUP BY ALL
"""
Rows: TypeAlias = Sequence[Mapping[str, Any]]
Over: TypeAlias = Callable[[Callable[[EventStore], Rows]], Awaitable[Rows | None]]


async def series(over: Over, pipeline: str, days: int, now: float) -> dict[str, object]:
    """As `Live.series`, of the last days. Raises StorageError. `over`: of `Reception`; `now`: seconds since 1970."""
    step_s = days * _STEP_S
    last = int(now) // step_s
    steps = range(last - 144, last + 1)
    found = await over(partial(_read, pipeline, steps[0] * step_s * 1_000_000, step_s * 1_000_000)) or ()
    by_arm: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in found:
        by_arm.setdefault(row["arm"], {})[row["step"]] = row
    arms = [
        {
            "arm": arm,
            "rows_per_s": [round(rows[s]["rows_per_s"], 4) if s in rows else 0.0 for s in steps],
            **{
                key: [rows[s][key] if s in rows else None for s in steps] for key in ("error_share", "p95_ms")
            },
        }
        for arm, rows in sorted(by_arm.items(), key=lambda one: (one[0] != LIVE, one[0]))
    ]
    return {"pipeline": pipeline, "at": [s * step_s for s in steps], "arms": arms}


def _read(pipeline: str, first_us: int, step_us: int, store: EventStore) -> Rows:
    if not store.headers(pipeline, first_us):
        return ()
    rows, _ = store.ask(_ARMS, [first_us, step_us], pipeline, first_us)
    return list(rows.to_pylist())
