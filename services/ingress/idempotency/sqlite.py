"""Keys in a file that all doors of one machine share: SQLite with a write-ahead log. Or, without a file, of one process.

Each step is one transaction, so a door that is killed leaves a lease or an outcome, nothing in between. A commit is in the file
system's hands when it returns: it survives the end of any process, but the last ones may be lost when the machine loses power
(`synchronous=NORMAL`; a flush for each call would cost milliseconds). Reads and writes of a file block, so one thread does them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from services.ingress.idempotency.store import Call, Claim, State, StoreUnreachableError, found

if TYPE_CHECKING:
    from services.ingress.idempotency.settings import Idempotency

T = TypeVar("T")
# Another door holds the lock for one transaction, far below a millisecond.
_LOCK_WAIT_S = 1.0
_PURGED_AT_ONCE = 500
# `uses` always says what `keys` holds, as the triggers run in the same transaction.
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA journal_size_limit = 33554432;
CREATE TABLE IF NOT EXISTS keys (
  tenant TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, token TEXT NOT NULL, until REAL NOT NULL,
  claimed REAL NOT NULL, outcome BLOB, size INTEGER NOT NULL DEFAULT 0, note TEXT,
  PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_until ON keys (until);
CREATE TABLE IF NOT EXISTS uses (tenant TEXT PRIMARY KEY, keys INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS keys_added AFTER INSERT ON keys BEGIN
  INSERT INTO uses VALUES (new.tenant, 1, new.size)
  ON CONFLICT (tenant) DO UPDATE SET keys = keys + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER IF NOT EXISTS keys_sized AFTER UPDATE OF size ON keys BEGIN
  UPDATE uses SET bytes = bytes + new.size - old.size WHERE tenant = new.tenant;
END;
CREATE TRIGGER IF NOT EXISTS keys_gone AFTER DELETE ON keys BEGIN
  UPDATE uses SET keys = keys - 1, bytes = bytes - old.size WHERE tenant = old.tenant;
  DELETE FROM uses WHERE tenant = old.tenant AND keys = 0;
END;
"""
_OWNED = " WHERE (tenant, key, fingerprint, token) = (?3, ?4, ?5, ?6) AND outcome IS NULL AND until > ?1"


class SqliteKeys:
    """A `KeyStore`. `path`: None: the memory of this process. `wall`: seconds since the epoch, the one clock that all doors and
    their successors share.

    The file is opened when it is first needed, and again after a failure, so that a mended disk needs no restart.
    """

    def __init__(self, path: Path | None, rules: Idempotency, wall: Callable[[], float]) -> None:
        self._path = path
        self._rules = rules
        self._wall = wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="idempotency") if path is not None else None
        self._connection: sqlite3.Connection | None = None

    async def claim(self, call: Call) -> Claim:
        def taken(db: sqlite3.Connection, now: float) -> Claim | None:
            """What the key is if it is not free."""
            row = db.execute(
                "SELECT fingerprint, until, outcome FROM keys WHERE tenant = ? AND key = ?", call[:2]
            ).fetchone()
            return None if row is None or row[1] <= now else found(call, row[0], row[2])

        def claim(db: sqlite3.Connection, now: float) -> Claim:
            if (other := taken(db, now)) is not None:
                return other
            self._purge(db, now)
            db.execute("DELETE FROM keys WHERE tenant = ? AND key = ?", call[:2])
            if self._is_full(db, call.tenant):
                return Claim(State.FULL)
            db.execute(
                "INSERT INTO keys (tenant, key, fingerprint, token, until, claimed) VALUES (?, ?, ?, ?, ?, ?)",
                (*call, now + self._rules.lease_s, now),
            )
            return Claim(State.CLAIMED)

        # A read needs no lock, and most who come here with a known key need nothing else.
        return await self._do(lambda db: taken(db, self._wall()) or self._in_transaction(db, claim))

    async def renew(self, call: Call) -> bool:
        return await self._changed(call, "UPDATE keys SET until = ?2", self._rules.lease_s)

    async def commit(self, call: Call, outcome: bytes, note: str) -> bool:
        change = "UPDATE keys SET until = ?2, outcome = ?7, size = length(?7), note = ?8"
        return await self._changed(call, change, self._rules.kept_s, outcome, note)

    async def abandon(self, call: Call) -> None:
        await self._changed(call, "DELETE FROM keys", 0.0)

    async def purge(self) -> None:
        await self._do(lambda db: self._in_transaction(db, self._purge))

    async def close(self) -> None:
        def close() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await self._run(close)
        if self._thread is not None:
            self._thread.shutdown()

    async def _changed(self, call: Call, change: str, kept_s: float, *values: bytes | str) -> bool:
        """Whether the call's lease was there. ?1: the time, ?2: until when it is kept, ?3 … ?6: the call."""

        def changed(db: sqlite3.Connection, now: float) -> bool:
            return db.execute(change + _OWNED, (now, now + kept_s, *call, *values)).rowcount == 1

        return await self._do(lambda db: self._in_transaction(db, changed))

    async def _do(self, what: Callable[[sqlite3.Connection], T]) -> T:
        def done() -> T:
            try:
                return what(self._opened())
            except (sqlite3.Error, OSError) as error:
                self._reopen_next()
                name = "memory" if self._path is None else self._path.name
                raise StoreUnreachableError(f"{name}: {error}") from error

        return await self._run(done)

    async def _run(self, what: Callable[[], T]) -> T:
        if self._thread is None:
            return what()
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    def _in_transaction(self, db: sqlite3.Connection, what: Callable[[sqlite3.Connection, float], T]) -> T:
        db.execute("BEGIN IMMEDIATE")
        try:
            # The time after the lock was got: whoever had it before has written an earlier one.
            result = what(db, self._wall())
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        return result

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                # Answers are nobody else's business; SQLite gives its other files the same mode.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(self._path or ":memory:", timeout=_LOCK_WAIT_S, isolation_level=None)
            try:
                db.executescript(_SCHEMA)
            except BaseException:
                db.close()
                raise
            self._connection = db
        return self._connection

    def _reopen_next(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _is_full(self, db: sqlite3.Connection, tenant: str) -> bool:
        use = db.execute("SELECT keys, bytes FROM uses WHERE tenant = ?", (tenant,)).fetchone()
        return use is not None and (use[0] >= self._rules.max_keys or use[1] >= self._rules.max_bytes)

    def _purge(self, db: sqlite3.Connection, now: float) -> None:
        """A bounded number at a time, so that the lock is never held for long."""
        db.execute(
            "DELETE FROM keys WHERE (tenant, key) IN (SELECT tenant, key FROM keys WHERE until <= ? LIMIT ?)",
            (now, _PURGED_AT_ONCE),
        )
