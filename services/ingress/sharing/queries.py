"""The different queries of a day, counted by the doors of several machines together: each tells Redis the rows that it let
through, ten times a second, and learns those of the others. Until then it lets through no more than its part of what is left.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.state.queries import QueryTable
from headrace.state.redis import RedisDownError
from services.ingress.ports import Log
from services.ingress.sharing.exchange import Exchange, Merged
from services.ingress.sharing.metrics import ShareMetrics

Table = tuple[str, str, int]
"""Tenant, pipeline, day since 1970."""

# Rows in one exchange: some milliseconds of Redis' time.
_AT_ONCE = 1000
# For so long what was granted may be used. Redis keeps it for longer (LEASE_MS).
_GRANT_S = 1.0
# What a door that has not asked yet may let through: an ordinary batch, or this part of the budget divided by the doors.
_FIRST_ROWS, _FIRST_PART = 64, 0.02


class TableShare:
    """One table at this door. `table`: the rows that this door knows. Pure, except for that table."""

    def __init__(self, table: QueryTable) -> None:
        self.table = table
        # Those that were counted before: after a restart, or while Redis was away.
        self.unsent = list(table.hashes())
        # Rows of all doors, and how many of them are in `table`.
        self.count = self.known = 0
        self.budget = 0
        # New rows that may pass until the next exchange; None: nothing was granted, or that was long ago.
        self.grant: int | None = None
        self.epoch = b""
        # Since the last exchange: rows let through, and asked for.
        self.fresh = self.asked = 0

    @property
    def total(self) -> int:
        """Different rows of all doors, as far as this one knows."""
        return max(self.table.count, self.count + self.fresh)

    def allows(self, new: int, budget: int, doors: int, *, away: bool) -> bool:
        """Whether so many new rows are in this door's part of what is left. `away`: Redis can't be asked."""
        self.asked += new
        self.budget = budget
        if away:
            most = max((budget - self.count) // doors, 1)
        elif self.grant is not None:
            most = self.grant
        else:
            most = budget if doors == 1 else max(_FIRST_ROWS, int(budget * _FIRST_PART / doors))
        return self.fresh + new <= most

    def passed(self, rows: list[int]) -> None:
        """These were let through."""
        self.unsent += rows
        self.fresh += len(rows)

    def merged(self, sent: int, merged: Merged) -> None:
        """The first `sent` of the unsent rows are told, and what Redis said."""
        del self.unsent[:sent]
        self.fresh, self.asked = min(self.fresh, len(self.unsent)), 0
        self.count, self.grant = merged.count, merged.grant
        lost = merged.count < self.known or (self.epoch and merged.epoch != self.epoch)
        self.epoch = merged.epoch
        if lost:
            self.known, self.unsent = 0, list(self.table.hashes())
        else:
            self.table.add(merged.unknown)
            self.known += len(merged.unknown)

    @property
    def due(self) -> bool:
        """Whether there is something to tell, or to learn."""
        return bool(self.unsent or self.asked) or self.known < self.count


class MergedQueries:
    """All tables of this door. `clock`: monotonic seconds; `doors`: how many share; `away`: whether Redis can't be asked, as the
    leases of limits know."""

    def __init__(
        self,
        exchange: Exchange,
        clock: Callable[[], float],
        doors: Callable[[], int],
        away: Callable[[], bool],
        metrics: ShareMetrics,
        log: Log,
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        self._granted: dict[Table, float] = {}
        self._doors = doors
        self._away = away
        self._metrics = metrics
        self._log = log
        self._tables: dict[Table, TableShare] = {}
        self._said = ""

    def share(self, name: Table, table: QueryTable) -> TableShare:
        """The part of one table that this door has; `table` may be another one than before, with all rows of the other."""
        found = self._tables.get(name)
        if found is None:
            for old in [t for t in self._tables if t[:2] == name[:2]]:
                del self._tables[old]
            found = self._tables[name] = TableShare(table)
        found.table = table
        return found

    def allows(self, share: TableShare, new: int, budget: int) -> bool:
        """Whether so many new rows may pass now; if not, they may after the next exchange."""
        return share.allows(new, budget, self._doors(), away=self._away())

    def forget(self, names: set[str]) -> None:
        """Keeps only the tables of these tenants."""
        self._tables = {table: share for table, share in self._tables.items() if table[0] in names}

    async def look(self) -> None:
        """Exchanges what is due. Called again and again."""
        if self._away():
            return
        for name, share in list(self._tables.items()):
            if share.due:
                await self._exchanged(name, share)
            elif self._clock() - self._granted.get(name, float("-inf")) >= _GRANT_S:
                share.grant = None
        self._granted = {name: at for name, at in self._granted.items() if name in self._tables}

    async def _exchanged(self, name: Table, share: TableShare) -> None:
        rows = share.unsent[:_AT_ONCE]
        try:
            merged = await self._exchange.merge(name, share.budget, share.asked, share.known, _AT_ONCE, rows)
        except RedisDownError as error:
            merged = str(error)
        if isinstance(merged, Merged):
            share.merged(len(rows), merged)
            self._granted[name] = self._clock()
            self._said = ""
            return
        self._metrics.failures.inc()
        share.grant = None
        if merged != self._said:
            self._said = merged
            self._log.error("different queries are not shared by the doors", tenant=name[0], error=merged)
