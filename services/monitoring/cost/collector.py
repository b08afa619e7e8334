"""Once in a while: asks all processes what they used, divides it among those who caused it, and writes it into the ledger.

It is called by one thread at a time. What was read last is in the ledger itself: so several processes may do this, nothing is
counted twice, and a restart goes on where the last process ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from headrace.cost import (
    Bill,
    Charge,
    Interval,
    Key,
    PricesFile,
    ProcessUse,
    Work,
    billed,
    charges,
)
from headrace.cost.prices import GB
from headrace.cost.usage import INGRESS, REFUSED, REFUSED_PART, SHAPES
from services.monitoring.cost import ledger
from services.monitoring.cost.processes import Page, Target, ask, resolved, targets
from services.monitoring.cost.settings import CostSettings
from services.monitoring.database.columns import take_turn
from services.monitoring.database.facts import Facts

# After a longer time without a reading, the system was off: nothing is billed for it.
LONGEST_S = 600.0
# Hours of the ledger are kept for so long.
_KEPT_S = 400 * 86_400.0
_FILES_S = 300.0
_TIME = "time"


@dataclass(frozen=True, slots=True)
class Collected:
    """What was written. `answered`: processes that said what they used; `asked`: all."""

    charges: Sequence[Charge]
    bills: Sequence[Bill]
    answered: int
    asked: int


@dataclass(slots=True)
class _Readings:
    """Counters as they were read last, and as they are now."""

    last: Mapping[str, float]
    now: dict[str, float] = field(default_factory=dict)

    def grew(self, name: str, value: float, first: float) -> float:
        """By how much a counter grew; `first`: of one that was never read."""
        self.now[name] = value
        return max(value - self.last[name], 0.0) if name in self.last else first


class Collector:
    """`wall`: seconds since 1970. `asking`: threads that processes are asked on. `seen`: gets all processes, and what those said
    that answered."""

    def __init__(
        self,
        settings: CostSettings,
        events: Path | None,
        prices: PricesFile,
        facts: Facts,
        wall: Callable[[], float],
        asking: Executor,
        ask_one: Callable[[Target], Page | None] = ask,
        seen: Callable[[Sequence[Target], Sequence[Page]], None] = lambda *_: None,
    ) -> None:
        self._settings = settings
        self._events = events
        self._prices = prices
        self._facts = facts
        self._wall = wall
        self._asking = asking
        self._ask = ask_one
        self._seen = seen
        self._sizes = (0.0, 0.0)
        self._sized = -_FILES_S

    def collect(self, work: dict[Key, Work]) -> Collected | None:
        """Writes one interval. None: it is the first reading after a pause, which is a beginning only. Blocks.

        Raises TargetsError, StorageError: nothing was written.
        """
        known = (
            resolved(self._settings.services)
            if self._settings.targets is None
            else targets(self._settings.targets)
        )
        pages = [page for page in self._asking.map(self._ask, known) if page is not None]
        self._seen(known, pages)
        prices, now = self._prices.refresh(), self._wall()
        apart = frozenset(target.service for target in known)
        written: list[Collected | None] = []

        def write(connection: sa.Connection) -> Collected | None:
            take_turn(connection, "cost")
            readings = _Readings(ledger.last_readings(connection))
            seconds = now - readings.last.get(_TIME, 0.0)
            if written and not seconds:
                return written[0]  # it was committed, and is run again as nobody said so
            begins = not 0 < seconds <= LONGEST_S
            found = self._interval(0.0 if begins else seconds, pages, readings, work, apart)
            memory_gb = {page.target.service: page.memory_gb for page in pages}
            ledger.keep_readings(connection, readings.now | {_TIME: now}, memory_gb, now)
            written[:] = [None]
            if begins:
                return None
            made, bills = charges(found, prices), billed(found, prices)
            ledger.add(connection, now, seconds, prices.currency, made, bills, found.work)
            ledger.remove_before(connection, now - _KEPT_S)
            written[:] = [Collected(made, bills, len(pages), len(known))]
            return written[0]

        return self._facts.write(write)

    def _interval(
        self,
        seconds: float,
        pages: Sequence[Page],
        readings: _Readings,
        work: Mapping[Key, Work],
        apart: frozenset[str],
    ) -> Interval:
        work = dict(work)
        processes = []
        for page in pages:
            name = f"{page.target.instance}@{page.started:.2f}"
            started = f"{name}/cpu" not in readings.last
            grew = readings.grew(f"{name}/cpu", page.cpu_s, page.cpu_s)
            spent = (0.0, grew) if started else (grew, 0.0)
            processes.append(ProcessUse(page.target.service, spent[0], page.memory_gb, spent[1]))
            for who, count in page.refused.items():
                refused = readings.grew(f"{name}/refused/{who[0]}/{who[1]}", count, count)
                if refused:
                    work.setdefault(Key(*who, traffic=REFUSED), Work()).add(_refusals(refused))
        events, files = self._measured()
        return Interval(seconds, processes, work, apart, events, files)

    def _measured(self) -> tuple[float, float]:
        """GB of events, and of all files."""
        now = self._wall()
        if not 0 <= now - self._sized < _FILES_S:
            self._sizes = _size_gb(self._events), _size_gb(self._settings.files)
            self._sized = now
        return self._sizes


def _refusals(count: float) -> Work:
    return Work(requests=round(count), busy_us={INGRESS: SHAPES[INGRESS].us(0, count) * REFUSED_PART})


def _size_gb(folder: Path | None) -> float:
    """Size of all files below; those that vanish meanwhile count for nothing."""
    if folder is None:
        return 0.0
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118 - a Path each costs ten times as much
            except OSError:
                continue
    return total / GB
