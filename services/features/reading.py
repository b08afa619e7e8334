"""Reads features for a batch: never for longer than allowed, and always with an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.columns import Batch, Column, Timing
from services.features.fetching import Fetcher
from services.features.keying import Keys, distinct, read_parts
from services.features.planning import ServicePlan
from services.features.shaping import Answer, Judged, judge

# Of the time a call has left, reading may take this share; the rest is for answering with what is remembered.
_SHARE = 0.8
_MICRO = 1_000_000


class Observer(Protocol):
    """Sees what goes out; see metrics.py."""

    def served(self, judged: Judged) -> None:
        """A view's rows go out."""
        ...


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` for durations; `wall` (seconds since 1970) for ages."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class Reader:
    """Serves batches. Used on one event loop."""

    def __init__(self, fetcher: Fetcher, observer: Observer, clocks: Clocks, timeout_s: float) -> None:
        self._fetcher = fetcher
        self._observer = observer
        self._clocks = clocks
        self._timeout_s = timeout_s

    async def read(self, plan: ServicePlan, batch: Batch, budget_s: float) -> tuple[list[Judged], Batch]:
        """Per view, what is known of the batch's rows; and the batch without columns, with the time it took.

        Rows that failed before, or whose deadline has passed, are failed. Raises Fault INVALID_ARGUMENT for
        entity columns that do not fit the plan.
        """
        clock = self._clocks.monotonic
        began = clock()
        keys = keys_of(plan, batch.columns, len(batch))
        read_began = clock()
        judged = await self.judged(plan, keys, budget_s)
        ended = clock()
        reply = Batch(batch.rows, {}, batch.errors).with_errors(batch.expired(ended, "features"))
        reply.timings = [
            _timing("features", began, began, ended, len(batch)),
            _timing("features/store", began, read_began, ended, sum([len(k.keys) for k in keys])),
        ]
        return judged, reply

    async def judged(self, plan: ServicePlan, keys: Sequence[Keys], budget_s: float) -> list[Judged]:
        """Per view, what is known of these keys."""
        found = await self._fetcher.fetch(plan.views, keys, min(self._timeout_s, budget_s * _SHARE))
        now = self._clocks.wall()
        judged = []
        for view, view_keys, (rows, asked) in zip(plan.views, keys, found, strict=True):
            one = judge(Answer(view, view_keys, rows, asked), now)
            self._observer.served(one)
            judged.append(one)
        return judged


def keys_of(plan: ServicePlan, columns: Mapping[str, Column], rows: int) -> list[Keys]:
    """Per view, the distinct keys of the rows."""
    parts = read_parts(columns, plan.keys)
    keys: list[Keys] = []
    for i, (view, group) in enumerate(zip(plan.views, plan.key_groups, strict=True)):
        keys.append(distinct(view, parts, rows) if group == i else keys[group])
    return keys


def _timing(stage: str, origin: float, start: float, stop: float, rows: int) -> Timing:
    return Timing(stage, "features", int((start - origin) * _MICRO), int((stop - start) * _MICRO), rows)
