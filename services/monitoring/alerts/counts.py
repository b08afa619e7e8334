"""What objectives count, over days: sums by minute, later by longer buckets, from the counters of the doors.

What was read last is in the database too: a restart goes on where the last process ended, and several processes count nothing
twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TypeAlias

import sqlalchemy as sa

from headrace.slo import WINDOWS_S, Count
from services.monitoring.database.columns import add_sums, insert, table, take_turn
from services.monitoring.database.facts import Facts

COUNTS = table("objective_counts", texts="pipeline objective", numbers="start", reals="requests bad")
READINGS = table("objective_readings", texts="process pipeline objective", reals="requests bad time")
Name: TypeAlias = tuple[str, str]
"""Pipeline and objective."""

_MINUTE, _DAY = 60, 86_400
# Rows of this age are summed to buckets of so many seconds.
_BUCKETS = ((21_600, 600), (3 * _DAY, 3600))
_KEPT_S = 90 * _DAY
_KEY = ("pipeline", "objective", "start")
_SUMS = ("requests", "bad")


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of one objective in one door. `process`: a name that no other process has, also not after a restart."""

    process: str
    pipeline: str
    objective: str
    requests: float
    bad: float


class ObjectiveHistory:
    """`add` what was read, then ask for `windows`. Each blocks and raises StorageError, and nothing was changed."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def add(self, now: float, readings: Sequence[Reading]) -> None:
        """Adds by how much counters grew since the last time; at the first time of all, it is a beginning only. What grew is
        counted in the middle of the time since then: what a pause hid is not news."""
        self._facts.write(lambda connection: _add(connection, now, readings))

    def windows(self, now: float, periods: Mapping[Name, float]) -> dict[Name, dict[float, Count]]:
        """Of each objective the counts of WINDOWS_S and of its own period, by their seconds."""
        return self._facts.query(
            lambda connection: {
                name: _windows(connection, now, name, (*WINDOWS_S, period_s))
                for name, period_s in periods.items()
            }
        )


def _add(connection: sa.Connection, now: float, readings: Sequence[Reading]) -> None:
    take_turn(connection, "cost")
    last = {tuple(row[:3]): row[3:] for row in connection.execute(sa.select(READINGS))}
    before = max((time for _, _, time in last.values()), default=now)
    start = int(min(before, now) + now) // 2 // _MINUTE * _MINUTE
    grown: defaultdict[tuple[str, str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for r in readings if last else ():
        requests, bad, *_ = last.get((r.process, r.pipeline, r.objective), (0.0, 0.0))
        sums = grown[r.pipeline, r.objective, start]
        sums[0] += r.requests - requests
        sums[1] += r.bad - bad
    add_sums(connection, COUNTS, _KEY, _SUMS, grown)
    if readings:
        new = insert(connection.dialect.name, READINGS)
        key, values = ("process", *_KEY[:2]), (*_SUMS, "time")
        new = new.on_conflict_do_update(index_elements=key, set_={n: new.excluded[n] for n in values})
        connection.execute(
            new, [dict(zip((*key, *values), (*astuple(r), now), strict=True)) for r in readings]
        )
    connection.execute(sa.delete(READINGS).where(READINGS.c.time < now - _DAY))
    connection.execute(sa.delete(COUNTS).where(COUNTS.c.start < now - _KEPT_S))
    for age, width in _BUCKETS:
        _summed(connection, (int(now) - age) // width * width, width)


def _summed(connection: sa.Connection, before: int, width: int) -> None:
    """Sums rows that begin before this time to buckets of `width` seconds."""
    c = COUNTS.c
    old = (c.start < before) & (c.start % width != 0)
    bucket = c.start - c.start % width
    sums = sa.select(c.pipeline, c.objective, bucket, sa.func.sum(c.requests), sa.func.sum(c.bad))
    rows = connection.execute(sums.where(old).group_by(c.pipeline, c.objective, bucket)).all()
    add_sums(connection, COUNTS, _KEY, _SUMS, {tuple(row[:3]): row[3:] for row in rows})
    connection.execute(sa.delete(COUNTS).where(old))


def _windows(
    connection: sa.Connection, now: float, name: Name, windows: Iterable[float]
) -> dict[float, Count]:
    c, found = COUNTS.c, {}
    # A bucket of the window is one of which more than half lies in it.
    for window in windows:
        within = (c.pipeline == name[0]) & (c.objective == name[1]) & (c.start > now - window - _MINUTE / 2)
        [[requests, bad]] = connection.execute(
            sa.select(sa.func.sum(c.requests), sa.func.sum(c.bad)).where(within)
        )
        found[window] = Count(requests or 0.0, bad or 0.0)
    return found
