"""Opens the database `facts` when it is needed and can be opened; says it when it can't be used, and again when it can."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import sqlalchemy as sa
from prometheus_client import Gauge

from headrace.catalog.errors import RecordsUnavailableError
from headrace.hop.config import ConfigError
from headrace.storage import address as addresses
from headrace.storage.database import Database
from headrace.storage.schema import Schema, prepare
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

# `version`: of the newest migration.
SCHEMA = Schema(Path(__file__).with_name("migrations"), version=1)
# What is stored waits for each other at SQLite; what is read does not.
_THREADS = 4
P = ParamSpec("P")
T = TypeVar("T")


class Facts:
    """Threads may share it. A file that is not there is made, and an empty database set up, by whoever is first.

    A damaged one is never begun anew: it says which events are genuine, and what tenants are billed. A person restores it."""

    def __init__(self, address: str | None, failing: Gauge, log: Log) -> None:
        """`address`: of `headrace.storage`; None: a file that goes with this process. `failing`: 1 while it can't be used.

        Raises ConfigError: the address is none."""
        self._ending = ExitStack()
        if address is None:
            address = self._ending.enter_context(tempfile.TemporaryDirectory(prefix="headrace-")) + "/facts"
        self._address = address
        try:
            addresses.parse(address)
        except ValueError as error:
            raise ConfigError(f"database: {error}") from None
        self._gauge, self._log = failing, log
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._failing: dict[bool, str] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "facts")

    def query(self, work: Callable[[sa.Connection], T]) -> T:
        """See Database.query. Blocks. Raises StorageError."""
        return self._done(lambda database: database.query(work), writes=False)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """See Database.write. Blocks. Raises StorageError: nothing was written, or its answer was lost."""
        return self._done(lambda database: database.write(work), writes=True)

    async def run(self, what: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """What a store's method returns or raises, on a thread of the database's."""
        call = partial(what, *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def close(self) -> None:
        """After what runs; lets another process have the file. Blocks."""
        self._threads.shutdown()
        with self._lock:
            if self._database is not None:
                self._database.close()
        self._ending.close()

    def _done(self, work: Callable[[Database], T], *, writes: bool) -> T:
        try:
            found = work(self._opened())
        except RecordsUnavailableError as error:
            self._fails(str(error), writes=writes)
            raise StorageError(str(error)) from error
        if self._failing:
            self._works(writes=writes)
        return found

    def _opened(self) -> Database:
        with self._lock:
            if self._database is None:
                database = Database.open(self._address, create=True)
                try:
                    prepare(database, SCHEMA, initialise=True)
                except BaseException:
                    database.close()
                    raise
                self._database = database
            return self._database

    def _fails(self, why: str, *, writes: bool) -> None:
        self._gauge.set(1)
        if self._failing.get(writes) != why:
            self._failing[writes] = why
            self._log.error("facts can't be stored" if writes else "facts can't be read", error=why)

    def _works(self, *, writes: bool) -> None:
        # A full disk can be read.
        self._failing = {kind: why for kind, why in self._failing.items() if kind and not writes}
        if not self._failing:
            self._gauge.set(0)
            self._log.info("facts are stored again")
