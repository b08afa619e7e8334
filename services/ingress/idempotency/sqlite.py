"""Keys in a file that all doors of one machine share: SQLite with a write-ahead log.

Each step is one transaction, so a door that is killed leaves a lease or an outcome, nothing in between. A commit is in the file
system's hands when it returns: it survives the end of any process, but the last ones may be lost when the machine loses power
(`synchronous=NORMAL`; a flush for each call would cost milliseconds). Reads and writes block, so they run on one thread.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from services.ingress.idempotency.store import Claim, State, StoreRules, StoreUnreachableError

T = TypeVar("T")
# Another door holds the lock for one transaction, far below a millisecond.
_LOCK_WAIT_S = 1.0
_PURGED_AT_ONCE = 500
# `uses` always says what `keys` holds, as the triggers run in the same transaction.
_SCHEMA = """
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
_OWNED = "tenant = ? AND key = ? AND token = ? AND outcome IS NULL AND until > ?"


class SqliteKeys:
    """A `KeyStore`. `wall`: seconds since the epoch, the one clock that all doors and their successors share.

    The file is opened when it is first needed, and again after a failure, so that a mended disk needs no restart.
    """

    def __init__(self, path: Path, rules: StoreRules, wall: Callable[[], float]) -> None:
        self._path = path
        self._rules = rules
        self._wall = wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="idempotency")
        self._connection: sqlite3.Connection | None = None

    async def claim(self, tenant: str, key: str, fingerprint: bytes, token: str) -> Claim:
        def found(db: sqlite3.Connection, now: float) -> Claim | None:
            """What the key is if it is not free."""
            row = db.execute(
                "SELECT fingerprint, until, outcome FROM keys WHERE tenant = ? AND key = ?", (tenant, key)
            ).fetchone()
            if row is None or row[1] <= now:
                return None
            if row[0] != fingerprint:
                return Claim(State.OTHER)
            return Claim(State.BUSY) if row[2] is None else Claim(State.KEPT, row[2])

        def claim(db: sqlite3.Connection, now: float) -> Claim:
            taken = found(db, now)
            if taken is not None:
                return taken
            self._purge(db, now)
            db.execute("DELETE FROM keys WHERE tenant = ? AND key = ?", (tenant, key))
            if self._is_full(db, tenant):
                return Claim(State.FULL)
            values = tenant, key, fingerprint, token, now + self._rules.lease_s, now
            db.execute(
                "INSERT INTO keys (tenant, key, fingerprint, token, until, claimed) VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )
            return Claim(State.CLAIMED)

        def step(db: sqlite3.Connection) -> Claim:
            # A read needs no lock, and most who come here with a known key need nothing else.
            return found(db, self._wall()) or self._in_transaction(db, claim)

        return await self._do(step)

    async def renew(self, tenant: str, key: str, token: str) -> bool:
        def renew(db: sqlite3.Connection, now: float) -> bool:
            until = now + self._rules.lease_s
            done = db.execute(f"UPDATE keys SET until = ? WHERE {_OWNED}", (until, tenant, key, token, now))  # noqa: S608 - no value is in the text
            return done.rowcount == 1

        return await self._write(renew)

    async def commit(self, tenant: str, key: str, token: str, outcome: bytes, note: str) -> bool:
        def commit(db: sqlite3.Connection, now: float) -> bool:
            until = now + self._rules.kept_s
            done = db.execute(
                f"UPDATE keys SET outcome = ?, size = ?, note = ?, until = ? WHERE {_OWNED}",  # noqa: S608 - no value is in the text
                (outcome, len(outcome), note, until, tenant, key, token, now),
            )
            return done.rowcount == 1

        return await self._write(commit)

    async def abandon(self, tenant: str, key: str, token: str) -> None:
        def abandon(db: sqlite3.Connection, now: float) -> None:
            db.execute(f"DELETE FROM keys WHERE {_OWNED}", (tenant, key, token, now))  # noqa: S608 - no value is in the text

        await self._write(abandon)

    async def purge(self) -> None:
        await self._write(self._purge)

    async def close(self) -> None:
        def close() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    async def _write(self, what: Callable[[sqlite3.Connection, float], T]) -> T:
        return await self._do(lambda db: self._in_transaction(db, what))

    async def _do(self, what: Callable[[sqlite3.Connection], T]) -> T:
        def done() -> T:
            try:
                return what(self._opened())
            except (sqlite3.Error, OSError) as error:
                self._reopen_next()
                raise StoreUnreachableError(f"{self._path.name}: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, done)

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
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Answers are nobody else's business; SQLite gives its other files the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(self._path, timeout=_LOCK_WAIT_S, isolation_level=None)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute(f"PRAGMA journal_size_limit = {32 * 1024 * 1024}")
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
