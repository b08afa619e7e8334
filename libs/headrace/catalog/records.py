"""Records in a database of this process' own: each change is one transaction, with its line of the audit."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import sqlalchemy as sa

from headrace.audit.chain import AuditLine
from headrace.catalog import changes, leases
from headrace.catalog.access import Change, LeaseToken, Made, Position, Record, Records
from headrace.catalog.tables import AUDIT, EPOCHS, HEAD, MIGRATIONS, RECORDS, VERSION
from headrace.storage.database import Database
from headrace.storage.schema import Schema, prepare

PAGE = 1000
POLL_S = 0.2
# Raises RecordInvalidError for a change, by the records as they are.
Check = Callable[[Change, "Reading"], None]


class Reading:
    """The records as one transaction after the other sees them, or a single one."""

    def __init__(self, query: Callable[[Callable[[sa.Connection], list[Record]]], list[Record]]) -> None:
        self._query = query

    def read(self, kind: str, name: str, versions: int = 1) -> list[Record]:
        found = sa.select(RECORDS).where(RECORDS.c.kind == kind, RECORDS.c.name == name)
        found = found.order_by(RECORDS.c.version.desc()).limit(versions)
        return self._query(lambda c: _rows(c, found))

    def list(
        self,
        kind: str,
        prefix: str = "",
        *,
        names_only: bool = False,
        after: str = "",
        limit: int | None = None,
    ) -> list[Record]:
        """`after`, `limit`: a page, of the records whose names sort after this one (by their UTF-8)."""
        content = sa.null().label("content") if names_only else RECORDS.c.content
        found = sa.select(RECORDS.c.kind, RECORDS.c.name, RECORDS.c.version, RECORDS.c.number, content)
        found = found.where(
            RECORDS.c.kind == kind,
            RECORDS.c.name > after,
            sa.func.substr(RECORDS.c.name, 1, len(prefix)) == prefix,
            RECORDS.c.content.is_not(None),
            _newest(),
        )
        found = found.order_by(RECORDS.c.name).limit(limit)
        return self._query(lambda c: _rows(c, found))


class CatalogRecords(Reading, Records):
    """`Records` on SQLite or PostgreSQL, and what only the owner of the database may do."""

    def __init__(self, database: Database) -> None:
        """`database`: its schema is prepared."""
        super().__init__(database.query)
        self.database = database
        self._changed = threading.Condition()
        self._made = 0

    @classmethod
    def open(cls, address: str, *, initialise: bool) -> CatalogRecords:
        """`initialise`: a database that has no records yet gets its schema and the first line of its audit.

        Raises RecordsUnavailableError (NOT_INITIALISED, NEWER, IN_USE, …), ValueError for a wrong address.
        """
        database = Database.open(address, create=initialise)
        try:
            prepare(database, Schema(MIGRATIONS, VERSION, changes.first), initialise=initialise)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def change(self, change: Change, check: Check | None = None) -> Made:
        """`check`: within the transaction, so that what it has seen is so when the change is made."""
        return self._change(change, None, check)

    def begin_epoch(self, change: Change, above: int = 0) -> Made:
        """Makes a change that begins the history anew. `above`: the greatest epoch that anybody has; the new one is greater."""
        return self._change(change, above, None)

    def _change(self, change: Change, above: int | None, check: Check | None) -> Made:
        changes.check(change)

        def make(connection: sa.Connection) -> Made:
            reading = Reading(lambda work: work(connection))
            return changes.make(connection, change, above, check and partial(check, change, reading))

        made = self.database.write(make)
        self._wake()
        return made

    def position(self) -> Position:
        return self.newest()[0]

    def newest(self) -> tuple[Position, float]:
        """The newest position, and when it was made: seconds since 1970."""
        return self.database.query(changes.newest)

    def wait(self, known: Position | None, timeout_s: float) -> Position:
        """A change of this process is seen at once, one of another within POLL_S."""
        end = time.monotonic() + timeout_s
        while True:
            made = self._made
            position, left_s = self.position(), end - time.monotonic()
            if position != known or left_s <= 0:
                return position
            with self._changed:
                if self._made == made:
                    self._changed.wait(min(left_s, POLL_S))

    def _wake(self) -> None:
        with self._changed:
            self._made += 1
            self._changed.notify_all()

    def changes_since(self, number: int, kinds: Collection[str] = ()) -> tuple[Position, Sequence[Record]]:
        """The newest position, and the newest version of each record that changed after `number`, deleted ones too; by number.
        `kinds`: only these; empty: all."""
        found = sa.select(RECORDS).where(RECORDS.c.number > number, _newest())
        if kinds:
            found = found.where(RECORDS.c.kind.in_(kinds))
        found = found.order_by(RECORDS.c.number, RECORDS.c.kind, RECORDS.c.name)
        return self.database.query(lambda c: (changes.newest(c)[0], _rows(c, found)))

    def head_at(self, number: int) -> bytes | None:
        """SHA-256 of the audit's line of that number; None: there is none."""
        found = sa.select(AUDIT.c.sha256).where(AUDIT.c.number == number)
        return self.database.query(lambda c: c.execute(found).scalar_one_or_none())

    def ancestors(self, count: int) -> Sequence[Position]:
        """The first position of each epoch and the `count` newest ones, oldest first."""
        newest = sa.select(HEAD.c.number).scalar_subquery()
        epoch = (
            sa.select(sa.func.max(EPOCHS.c.epoch)).where(EPOCHS.c.number <= AUDIT.c.number).scalar_subquery()
        )
        begins = sa.select(EPOCHS.c.number)
        found = sa.select(epoch.label("epoch"), AUDIT.c.number, AUDIT.c.sha256).where(
            sa.or_(AUDIT.c.number > newest - count, AUDIT.c.number.in_(begins))
        )
        found = found.order_by(AUDIT.c.number)
        return self.database.query(lambda c: [Position(*row) for row in c.execute(found)])

    def lines(self, after: int = 0) -> Iterator[AuditLine]:
        while page := self.lines_page(after):
            yield from page
            after = page[-1].number

    def lines_page(self, after: int, limit: int = PAGE) -> Sequence[AuditLine]:
        """The first lines with a greater number."""
        return self.database.query(lambda connection: changes.lines(connection, after, limit))

    def take_lease(self, name: str, holder: str, duration_s: float, token: str = "") -> str:
        changes.check_text("lease", name, name)
        fresh = secrets.token_hex(16)

        def acquire(connection: sa.Connection) -> str:
            changes.lock_head(connection)
            return leases.acquire(connection, name, holder, duration_s, token, fresh)

        return self.database.write(acquire)

    def give_back(self, lease: LeaseToken) -> None:
        def release(connection: sa.Connection) -> None:
            changes.lock_head(connection)
            leases.release(connection, lease)

        self.database.write(release)

    def close(self) -> None:
        self.database.close()
        self._wake()


def _newest() -> sa.ColumnElement[bool]:
    other = RECORDS.alias()
    newest = sa.select(sa.func.max(other.c.version)).where(
        other.c.kind == RECORDS.c.kind, other.c.name == RECORDS.c.name
    )
    return RECORDS.c.version == newest.scalar_subquery()


def _rows(connection: sa.Connection, found: sa.Select[tuple[object, ...]]) -> list[Record]:
    return [
        Record(row.kind, row.name, row.version, row.number, row.content) for row in connection.execute(found)
    ]
