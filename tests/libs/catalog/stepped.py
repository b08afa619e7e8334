"""Transactions that stop before each statement, and go on when a test says so."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import psycopg
import sqlalchemy as sa

from headrace.catalog.records import CatalogRecords

T = TypeVar("T")
LONG_S = 60.0


class Stepped(Generic[T]):
    """Runs `work` in a thread. It stands before its first statement until `step` is called, then before the next one; or it is
    blocked by another transaction. `records`: of nobody else meanwhile."""

    def __init__(
        self,
        records: CatalogRecords,
        observer: psycopg.Connection[tuple[object, ...]],
        work: Callable[[CatalogRecords], T],
    ) -> None:
        self._records = records
        self._observer = observer
        self._changed = threading.Condition()
        self._allowed = self._stopped = 0
        self._free = False
        self._pid: int | None = None
        self._result: T | BaseException | None = None
        self._ended = False
        pool = records.database._engine.pool
        self._listening = ((pool, "before_cursor_execute", self._statement), (pool, "commit", self._stop))
        for listening in self._listening:
            sa.event.listen(*listening)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._stands()

    def step(self) -> bool:
        """Lets one statement (or the commit) go, and returns when it has ended, or is blocked. False: nothing is left to do."""
        if self._ended:
            return False
        if self.blocked():
            return True
        with self._changed:
            self._allowed = self._stopped
            self._changed.notify_all()
        self._stands()
        return True

    def free(self) -> None:
        """It does not stop any more."""
        with self._changed:
            self._free = True
            self._changed.notify_all()

    def finish(self) -> T | BaseException:
        """Its result, or what it raised. Whom it waits for must be free."""
        self.free()
        self._thread.join(LONG_S)
        assert self._ended
        for listening in self._listening:
            sa.event.remove(*listening)
        assert self._result is not None
        return self._result

    def blocked(self) -> bool:
        """Whether it waits for a lock of the database."""
        if self._pid is None:
            return False
        row = self._observer.execute(
            "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", (self._pid,)
        ).fetchone()
        return bool(row and row[0])

    def _stands(self) -> None:
        deadline = time.monotonic() + LONG_S
        while time.monotonic() < deadline:
            with self._changed:
                if self._ended or self._stopped > self._allowed:
                    return
                if self._changed.wait(0.002):
                    continue
            if self.blocked():
                return
        raise TimeoutError("neither stopped nor blocked")

    def _run(self, work: Callable[[CatalogRecords], T]) -> None:
        try:
            self._result = work(self._records)
        except BaseException as error:  # noqa: BLE001  # the test judges it
            self._result = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _statement(self, connection: sa.Connection, *_: object) -> None:
        self._pid = connection.connection.dbapi_connection.info.backend_pid
        self._stop(connection)

    def _stop(self, _: sa.Connection) -> None:
        with self._changed:
            self._stopped += 1
            self._changed.notify_all()
            mine = self._stopped
            self._changed.wait_for(lambda: self._free or self._allowed >= mine)
