"""Which stored predictions lack an explanation that their document demands, and which share has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from headrace.columns import Batch, Rows
from headrace.events import CODE, EVENT_ID, TIME_US, GroupHeader
from services.monitoring.events.files.arrow import REQUEST_ID, TENANT, answered_column
from services.monitoring.events.store import EventStore
from services.monitoring.explanations.from_events import quoted
from services.monitoring.explanations.records import Coverage
from services.monitoring.explanations.store import ExplanationStore

# Predictions that are looked at: of a day, so many minutes at once, the newest first.
WINDOW_S, _SPAN_S = 86_400.0, 300.0
# Older spans that are looked at for one answer, and predictions in it.
_LOOKS, _MOST = 2, 128
# What was given is given again if its explanation has not come by then.
_AGAIN_S = 600.0
# Younger predictions do not count in the coverage yet.
SETTLED_S = 60.0

_DUE = (
    f'"{CODE}" = 0 AND "{TIME_US}" BETWEEN ? AND ?'
    # A share of all ids, the same at each look: their last bytes are random.
    f' AND substr(hex("{EVENT_ID}"), 29, 4) < ?'
)
# Tenants in turns, so that one with many predictions holds up no other.
_NEXT = (
    f'FROM events SELECT "{EVENT_ID}", "{REQUEST_ID}", "{TENANT}", {{columns}} WHERE {_DUE}'
    f' AND "{EVENT_ID}" NOT IN (SELECT unnest(?::BLOB[]))'
    f' ORDER BY row_number() OVER (PARTITION BY "{TENANT}" ORDER BY "{TIME_US}" DESC), "{TIME_US}" DESC LIMIT {_MOST}'
)
_COUNT = f"FROM events SELECT count(*) WHERE {_DUE}"


@dataclass(frozen=True, slots=True)
class Demand:
    """The document of a revision demands an explanation of this share of its predictions. `columns`: that one needs."""

    pipeline: str
    revision: str
    coverage: float
    columns: tuple[str, ...] = ()

    @property
    def below(self) -> str:
        """Above the last two bytes of the ids of the predictions that must be explained, in hexadecimal."""
        return f"{int(self.coverage * 0x10000):04X}" if self.coverage < 1 else "G"


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Predictions of a demand that are to be explained. `ids`: of each row."""

    demand: Demand
    ids: list[bytes]
    batch: Batch


class MissingExplanations:
    """Not for several threads. Methods block, and raise StorageError. `wall`: seconds since 1970."""

    def __init__(self, explanations: ExplanationStore, wall: Callable[[], float]) -> None:
        self._explanations = explanations
        self._wall = wall
        # When an id was given; and by demand, the end of the older span that is looked at next.
        self._given: dict[bytes, float] = {}
        self._reached: dict[Demand, float] = {}

    def next(self, events: EventStore, demands: Sequence[Demand]) -> list[Unexplained]:
        """Some of each demand; what is given is not given again for some time."""
        now = self._wall()
        self._given = {i: at for i, at in self._given.items() if now - _AGAIN_S < at <= now}
        self._reached = {d: at for d, at in self._reached.items() if d in demands}
        found = [one for demand in demands if (one := self._of(events, demand, now)) is not None]
        self._given |= {identity: now for one in found for identity in one.ids}
        return found

    def coverage(self, events: EventStore, demands: Sequence[Demand]) -> list[Coverage]:
        """By pipeline, of those that have predictions."""
        found: dict[str, Coverage] = {}
        until = self._wall() - SETTLED_S
        since = until - WINDOW_S
        for demand in sorted(demands, key=lambda d: d.pipeline):
            answer = _ask(events, demand, _COUNT, since, until, lambda _: True)
            if answer and (due := answer["count_star()"][0].as_py()):
                made = min(due, self._explanations.count(demand.pipeline, demand.revision, since, until))
                before = found.get(demand.pipeline, Coverage(demand.pipeline, 0, 0))
                found[demand.pipeline] = Coverage(
                    demand.pipeline, before.predictions + due, before.explained + made
                )
        return list(found.values())

    def _of(self, events: EventStore, demand: Demand, now: float) -> Unexplained | None:
        newest = now - _SPAN_S
        if (found := self._in_span(events, demand, newest)) is not None:
            return found
        for _ in range(_LOOKS):
            first = self._reached.get(demand, newest) - _SPAN_S
            if (found := self._in_span(events, demand, first)) is not None:
                return found
            # After the oldest all are looked at anew: events may come late, and explanations fail.
            self._reached[demand] = first if first > now - WINDOW_S else newest
        return None

    def _in_span(self, events: EventStore, demand: Demand, first: float) -> Unexplained | None:
        until = first + _SPAN_S
        columns = ", ".join(map(quoted, demand.columns))
        known = [*self._explanations.ids(first, until), *self._given]
        needed = set(demand.columns)

        def usable(header: GroupHeader) -> bool:
            there = {*header.inputs, *header.features} - {*header.masked, *header.omitted}
            return needed <= there

        answer = _ask(events, demand, _NEXT.format(columns=columns), first, until, usable, known)
        if not answer or not answer.num_rows:
            return None
        ids, requests, tenants = (answer[name].to_pylist() for name in (EVENT_ID, REQUEST_ID, TENANT))
        count = len(ids)
        rows = Rows(requests, tenants, [0] * count, [0.0] * count, [""] * count)
        given = [answered_column(answer, name) for name in demand.columns]
        return Unexplained(demand, ids, Batch.of(rows, [c for c in given if c is not None]))


def _ask(
    events: EventStore,
    demand: Demand,
    sql: str,
    since: float,
    until: float,
    usable: Callable[[GroupHeader], bool],
    *more: object,
) -> pa.Table | None:
    """The answer to a question about what callers got of the revision; None: there are no such events."""

    def wanted(header: GroupHeader) -> bool:
        own = header.revision == demand.revision and not header.shadow_of and not header.replayed
        return own and usable(header)

    first_us, last_us = int(since * 1e6), int(until * 1e6)
    if not any(map(wanted, events.headers(demand.pipeline, first_us, last_us))):
        return None
    parameters = [first_us, last_us, demand.below, *more]
    return events.ask(sql, parameters, demand.pipeline, first_us, wanted, last_us)[0]
