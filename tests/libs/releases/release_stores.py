"""Stores of releases to test, and releases to put into them."""

import secrets
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from headrace.catalog.records import CatalogRecords
from headrace.pipeline import content_hash
from headrace.releases import Release
from headrace.releases.document import validated
from headrace.releases.of_records import RecordReleases
from headrace.releases.place import open_store
from headrace.releases.store import ReleaseStore
from tests import released
from tests.control_service import ControlService
from tests.postgres_server import PostgresServer

TEXT = "pipeline: flights\n"
REVISION = str(content_hash(TEXT))
OTHER = "0" * 64


def release(number: int = 1, pipeline: str = "flights", **changes: Any) -> Release:
    """A release with one arm, of the stored document."""
    values = {
        "pipeline": pipeline,
        "number": number,
        "parent": number - 1,
        "author": "test",
        "arms": {"live": {"version": 1, "revision": REVISION, "models": {"m": "1"}}},
        **changes,
    }
    return validated(pipeline, values)


class Place:
    """One store, which may be opened several times. `spoil(pipeline, number, content)` alters what lies in it."""

    def __init__(self, setting: str, spoil: Callable[[str, int, bytes], None]) -> None:
        self.setting = setting
        self.spoil = spoil
        self._open: list[ReleaseStore] = []

    def open(self) -> ReleaseStore:
        store = self._opened()
        self._open.append(store)
        return store

    def close(self) -> None:
        for store in self._open:
            store.close()

    def _opened(self) -> ReleaseStore:
        return open_store(self.setting)


class OwnPlace(Place):
    """In a database of this process. `address`: a new file, or of an empty database of PostgreSQL."""

    def __init__(self, address: str, spoil: Callable[[str, int, bytes], None] | None = None) -> None:
        super().__init__("", spoil or partial(released.spoil, address))
        self._records = CatalogRecords.open(address, initialise=True)
        # All stores have the same.
        self._records.close = cache(self._records.close)  # type: ignore[method-assign]  # closed once

    def _opened(self) -> ReleaseStore:
        return RecordReleases(self._records)


def in_postgres(server: PostgresServer) -> Place:
    """In a new database."""
    name = f"d{secrets.token_hex(4)}"

    def spoil(pipeline: str, number: int, content: bytes) -> None:
        with server.connect(name) as connection:
            where = "kind = 'release' AND name = %s AND version = %s"
            connection.execute(f"UPDATE records SET content = %s WHERE {where}", (content, pipeline, number))

    return OwnPlace(server.create(name), spoil)


def of_control(service: ControlService) -> Place:
    """Empties its database, as the service starts once for all tests."""
    service.execute("DELETE FROM records")
    return Place(f"control:{service.target}", partial(released.spoil, service.database))
