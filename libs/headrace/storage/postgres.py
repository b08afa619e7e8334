"""A PostgreSQL of version 13 or later. Nothing is bound to a connection, so that a pooler may lend one for each transaction."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.abc import RV, PQGen
from sqlalchemy.exc import DBAPIError

from headrace.catalog.errors import Unavailable
from headrace.storage.address import PostgresAddress
from headrace.storage.database import on_begin

OLDEST_VERSION = 130000
CONNECTIONS = 8
# Longer than all limits of the server: a server that is frozen, or behind a network that is cut, answers nothing at all.
ANSWER_S = 12.0
# A process that is frozen in its transaction must not hold the others up for long; they wait longer than that.
_LIMITS = (
    "SET LOCAL idle_in_transaction_session_timeout = '3s'; SET LOCAL lock_timeout = '6s';"
    " SET LOCAL statement_timeout = '10s'"
)
_DEFAULTS = {"connect_timeout": "3", "application_name": "headrace", "client_encoding": "utf8"}
# By SQLSTATE, then by its class.
_WHY = {
    "25006": Unavailable.READ_ONLY,
    "3F000": Unavailable.NOT_INITIALISED,
    "42P01": Unavailable.NOT_INITIALISED,
    "53100": Unavailable.FULL,
    "XX001": Unavailable.DAMAGED,
    "XX002": Unavailable.DAMAGED,
    "23": Unavailable.DAMAGED,
}
_AGAIN = {"40001", "40P01"}


class PostgresEngine:
    """Connects when it is first used."""

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self.pool = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=ANSWER_S,
            use_native_hstore=False,
            hide_parameters=True,
        )
        on_begin(
            self.pool,
            read=f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; {_LIMITS}",
            write=f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {_LIMITS};"
            # A server that is set to lose its last commits must not lose these.
            " SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
        )

    def writing(self) -> AbstractContextManager[object]:
        return nullcontext()

    def why(self, error: DBAPIError) -> Unavailable:
        state = getattr(error.orig, "sqlstate", None) or ""
        return _WHY.get(state) or _WHY.get(state[:2], Unavailable.UNREACHABLE)

    def again(self, error: DBAPIError) -> bool:
        return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _AGAIN

    def close(self) -> None:
        self.pool.dispose()

    def _connect(self) -> psycopg.Connection[Any]:
        options: dict[str, Any] = {**_DEFAULTS, **self._address.options, "prepare_threshold": None}
        if self._address.password_file is not None:
            try:
                options["password"] = self._address.password_file.read_text().rstrip("\n")
            except OSError:
                raise psycopg.OperationalError("the file of the database's password can't be read") from None
        connection = _Connection.connect(**options)
        if connection.info.server_version < OLDEST_VERSION:
            connection.close()
            raise psycopg.OperationalError("the database is older than PostgreSQL 13")
        return connection


class _Connection(psycopg.Connection[Any]):
    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, ANSWER_S if timeout is None else timeout)
        except psycopg.errors.OperationalError:
            if not self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                raise
            # No answer came: what the connection would say next belongs to a question that nobody waits for.
            self.pgconn.finish()
            raise
