"""The different queries of a day, counted by the doors of several machines together: each tells Redis the rows that it let
through, ten times a second, and learns those of the others. Until then it lets through no more than its part of what is left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

from headrace.state.queries import QueryTable
from headrace.state.redis import RedisDownError
from services.ingress.sharing.books import ROWS_KEPT_MS, Books, BusyError, RefusedError, Rows, Table
from services.ingress.sharing.division import LEASE_MS

# Rows of one entry in Redis, so that one reading is not too much for the loop; readings in one exchange, which are enough but for
# a door that starts when there is very much.
_AT_ONCE, _READS = 250, 16
# For so long what was granted may be used. In the book it is kept for longer (LEASE_MS).
_GRANT_S = 1.0
# What a door that has not asked yet may let through: an ordinary batch, or this part of the budget divided by the doors.
_FIRST_ROWS, _FIRST_PART = 64, 0.02


class TableShare:
    """One table at this door. `table`: the rows that this door knows. Pure, except for that table."""

    def __init__(self, table: QueryTable) -> None:
        self.table = table
        # Rows that Redis must have: let through here, and those that were counted before this door began, or while Redis was
        # away, or before it lost them. A row leaves when it is read from there, so all is read before any is told.
        self._unsent = dict.fromkeys(table.hashes())
        self._first, self.last = "", "0"
        self._whole = False
        # Rows of all doors at the last exchange.
        self.count = 0
        self._budget = 0
        # New rows that may pass until the next exchange; None: nothing was granted, or that was long ago.
        self.grant: int | None = None
        self.granted_at = -math.inf
        # Since the last grant: rows let through, and asked for.
        self._fresh = self._asked = 0

    @property
    def total(self) -> int:
        """Different rows of all doors, as far as this one knows."""
        return max(self.table.count, self.count + self._fresh)

    def allows(self, new: int, budget: int, doors: int, *, disconnected: bool) -> bool:
        """Whether so many new rows are in this door's part of what is left. `disconnected`: Redis can't be asked."""
        self._asked += new
        self._budget = budget
        if disconnected:
            most = max((budget - self.count) // doors, 1)
        elif self.grant is not None:
            most = self.grant
        else:
            most = budget if doors == 1 else max(_FIRST_ROWS, int(budget * _FIRST_PART / doors))
        return self._fresh + new <= most

    def passed(self, rows: Collection[int]) -> None:
        """These were let through."""
        self._unsent |= dict.fromkeys(rows)
        self._fresh += len(rows)

    def read(self, rows: Rows) -> bool:
        """What Redis has after what was read before. False: there is more, or it has lost what was read, so that all must be read
        from the beginning."""
        if self._first and rows.first != self._first:
            self._first, self.last, self._whole = "", "0", False
            self._unsent = dict.fromkeys(self.table.hashes())
            return False
        self._first, self.last = rows.first, rows.last
        for row in rows.rows:
            self._unsent.pop(row, None)
        self.table.add(rows.rows)
        self._whole = rows.whole
        return self._whole

    @property
    def unsent(self) -> list[int]:
        """The next rows that Redis must hear of. It may have them where this door has not read yet."""
        return list(islice(self._unsent, _AT_ONCE)) if self._whole else []

    def divide(self, door: str, value: bytes | None, now: float) -> tuple[bytes, int, int]:
        """This door's part of what is left, by demand, and no more than the others have not got: the book, for how many ms it is
        kept, and the part. Raises ValueError if the book can't be read."""
        try:
            book = json.loads(value or b'{"count": 0, "doors": {}}')
            known, doors = (
                int(book["count"]),
                {n: (float(u), int(d), int(g)) for n, (u, d, g) in book["doors"].items()},
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("not a book of a budget") from error
        others = {name: record for name, record in doors.items() if name != door and record[0] > now}
        self.count = self.table.count if self._whole else max(known + self._fresh, self.table.count)
        left = max(self._budget - self.count, 0)
        demands = sum(demand + 1 for _, demand, _ in others.values())
        free = left - sum(granted for _, _, granted in others.values())
        part = max(min(math.ceil(left * (self._asked + 1) / (self._asked + 1 + demands)), free), 0)
        # The others hear of rows that are not told now only later.
        untold = len(self._unsent) - len(self.unsent) if self._whole else self._fresh
        others[door] = now + LEASE_MS, self._asked, part + untold
        return json.dumps({"count": self.count, "doors": others}).encode(), ROWS_KEPT_MS, part

    def apply_grant(self, part: int, now: float) -> None:
        """What `divide` gave is this door's."""
        self.grant, self.granted_at = part, now
        self._asked = 0
        if self._whole:
            self._fresh = 0

    @property
    def due(self) -> bool:
        """Whether there is something to tell, or to learn."""
        return bool(self._unsent or self._asked) or not self._whole


class MergedQueries:
    """All tables of this door. `clock`: monotonic seconds; `doors`: how many share; `disconnected`: whether Redis can't be asked,
    as the leases of limits know."""

    def __init__(
        self,
        books: Books,
        clock: Callable[[], float],
        doors: Callable[[], int],
        disconnected: Callable[[], bool],
        log: Any,
    ) -> None:
        self._books = books
        self._clock = clock
        self._doors = doors
        self._disconnected = disconnected
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
        return share.allows(new, budget, self._doors(), disconnected=self._disconnected())

    def keep_only(self, names: AbstractSet[str]) -> None:
        """Forgets the tables of other tenants."""
        self._tables = {table: share for table, share in self._tables.items() if table[0] in names}

    async def refresh(self) -> None:
        """Exchanges what is due. Called again and again."""
        if self._disconnected():
            return
        for name, share in list(self._tables.items()):
            if share.due:
                await self._exchange(name, share)
            elif self._clock() - share.granted_at >= _GRANT_S:
                share.grant = None

    async def _exchange(self, name: Table, share: TableShare) -> None:
        try:
            share.apply_grant(await self._exchanged(name, share), self._clock())
        except BusyError:
            return
        except (RedisDownError, RefusedError) as error:
            share.grant = None
            if (why := str(error)) != self._said:
                self._said = why
                self._log.error("different queries are not shared by the doors", tenant=name[0], error=why)
        else:
            self._said = ""

    async def _exchanged(self, name: Table, share: TableShare) -> int:
        rows = await self._books.rows(name, share.last)
        for _ in range(_READS):
            if share.read(rows):
                break
            rows = await self._books.rows(name, share.last)
        return await self._books.divide(
            name, rows.book, lambda value, now: share.divide(self._books.door, value, now), share.unsent
        )
