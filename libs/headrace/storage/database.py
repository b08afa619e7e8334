"""A database: transactions that read what was at one moment, and transactions that write, again where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles

from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.storage.address import SqliteAddress, parse

T = TypeVar("T")
# A pooled connection that has died since its last use is noticed by the first attempt.
ATTEMPTS = 3
_TEXTS = {
    Unavailable.UNREACHABLE: "the database does not answer",
    Unavailable.FULL: "the database has no room left on its disk",
    Unavailable.READ_ONLY: "the database can be read only (a standby, or a disk that is read-only)",
    Unavailable.DAMAGED: "the database is damaged: restore it from a backup",
    Unavailable.NOT_INITIALISED: "the database is not initialised, or it was emptied",
    Unavailable.NEWER: "the database was written by a newer version, which this one can't follow",
    Unavailable.IN_USE: "another process has the database",
}


class clock(sa.ColumnElement[float]):  # noqa: N801  # reads as SQL's functions do
    """Seconds since 1970 by the database's clock, at the moment that the statement is run."""

    type = sa.Float()
    inherit_cache = True


class Engine(Protocol):
    """What SQLite and PostgreSQL do differently."""

    pool: sa.Engine

    def writing(self) -> AbstractContextManager[object]:
        """Held by a thread while it writes."""
        ...

    def why(self, error: DBAPIError) -> Unavailable:
        """What an error of the driver means."""
        ...

    def again(self, error: DBAPIError) -> bool:
        """Whether the transaction may succeed if it is run again."""
        ...

    def close(self) -> None: ...


class Database:
    """Threads may share it. All methods raise RecordsUnavailableError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._closed = False

    @classmethod
    def open(cls, address: str, *, create: bool = False) -> Database:
        """`create`: whether a file that is not there is made. Raises ValueError for a wrong address."""
        # Late: whoever has one kind of database alone need not load the other.
        found = parse(address)
        if isinstance(found, SqliteAddress):
            from headrace.storage.sqlite_file import SqliteEngine

            return cls(SqliteEngine(found.path, create=create))
        from headrace.storage.postgres import PostgresEngine

        return cls(PostgresEngine(found))

    def query(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs `work` in a transaction that sees one moment of the database, holds no writer up and can't write; again if the
        connection was dead."""
        return self._run(work, writes=False)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs `work` in a transaction that writes. It may be run again, also after a commit whose answer was lost: `work` must
        find out by what it reads whether it was done. What it raises is raised, and nothing is written."""
        with self._engine.writing():
            return self._run(work, writes=True)

    def close(self) -> None:
        """After what is being written. What is called later raises."""
        with self._engine.writing():
            self._closed = True
            self._engine.close()

    def _run(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._connection(writes=writes) as connection, connection.begin():
                    return work(connection)
            except SQLAlchemyError as error:
                again = isinstance(error, DBAPIError) and self._engine.again(error)
                if attempt == ATTEMPTS or not again:
                    raise self._unavailable(error) from error
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _connection(self, *, writes: bool) -> Iterator[sa.Connection]:
        if self._closed:
            raise unavailable(Unavailable.UNREACHABLE, ": it was closed")
        with self._engine.pool.connect() as connection:
            try:
                yield connection.execution_options(headrace_writes=writes)
            finally:
                if self._closed and not connection.invalidated:
                    # Meanwhile: no pool takes it back.
                    connection.detach()

    def _unavailable(self, error: SQLAlchemyError) -> RecordsUnavailableError:
        why = self._engine.why(error) if isinstance(error, DBAPIError) else Unavailable.UNREACHABLE
        return unavailable(why)


def unavailable(why: Unavailable, more: str = "") -> RecordsUnavailableError:
    return RecordsUnavailableError(why, _TEXTS[why] + more)


def on_begin(pool: sa.Engine, *, read: str, write: str) -> None:
    """Has each transaction begin with the one statement or the other."""

    @sa.event.listens_for(pool, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("headrace_writes", False)
        connection.exec_driver_sql(write if writes else read)


@compiles(clock, "sqlite")
def _sqlite_clock(*_: object, **__: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgres_clock(*_: object, **__: object) -> str:
    return "extract(epoch from clock_timestamp())::float8"
