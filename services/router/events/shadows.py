"""Events of what shadows answered: nobody got these answers, and the events say beside which arm they were made."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from headrace.columns import Batch
from services.router.events.ring import Ring, Standing
from services.router.routes.run import RouteResult
from services.router.shadow.run import Portion
from services.router.ticks.counters import Part


class ShadowEvents:
    """Implements `shadow.run.ShadowObserver`."""

    def __init__(self, ring: Ring, log: Any) -> None:
        self._ring = ring
        self._log = log

    def answered(self, portion: Portion, result: RouteResult, seconds: float) -> None:
        """Notes the answers."""
        first = portion.copied[0]
        route = first.shadow.route
        try:
            why = Standing(first.shadow.release, shadow_of=first.live.name)
            self._ring.note(why, route, _part(portion, result), result, seconds)
        except Exception as error:  # noqa: BLE001 - the task must go on
            self._log.error("a shadow was not noted", error=f"{type(error).__name__}: {error}")


def _part(portion: Portion, result: RouteResult) -> Part:
    """The rows of the portion, with the messages that they came in, one behind the other."""
    route = portion.copied[0].shadow.route
    wholes = [copied.part.whole.rows for copied in portion.copied]
    positions = [
        start + (rows if copied.part.positions is None else copied.part.positions[rows])
        for start, copied, rows in zip(
            accumulate(map(len, wholes), initial=0), portion.copied, portion.rows, strict=False
        )
    ]
    together = replace(
        wholes[0],
        request_ids=[i for rows in wholes for i in rows.request_ids],
        tenants=[t for rows in wholes for t in rows.tenants],
    )
    whole = Batch(together, {})
    return Part(route.name, route.plan.pipeline, whole, result.batch, np.concatenate(positions))
