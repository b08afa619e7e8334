"""Stores of releases to test, and releases to put into them."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

from headrace.catalog.records import CatalogRecords
from headrace.pipeline import content_hash
from headrace.releases import Release
from headrace.releases.document import validated
from headrace.releases.of_records import RecordReleases
from headrace.releases.place import open_store
from headrace.releases.store import ReleaseStore
from tests.control_service import ControlService

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
    """In a database that this process alone can open."""

    def __init__(self, path: Path) -> None:
        super().__init__("", partial(_spoil, path))
        self._records = CatalogRecords.open(str(path), initialise=True)
        # All stores have the same.
        self._records.close = cache(self._records.close)  # type: ignore[method-assign]  # closed once

    def _opened(self) -> ReleaseStore:
        return RecordReleases(self._records)


def _spoil(path: str | Path, pipeline: str, number: int, content: bytes) -> None:
    """Nothing was removed, so versions are numbers."""
    with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        connection.execute(
            "UPDATE records SET content = ? WHERE kind = 'release' AND name = ? AND version = ?",
            (content, pipeline, number),
        )


def of_control(service: ControlService) -> Place:
    """Empties its database, as the service starts once for all tests."""
    service.execute("DELETE FROM records")
    return Place(f"control:{service.target}", partial(_spoil, service.database))


def files(folder: Path) -> Place:
    def spoil(pipeline: str, number: int, content: bytes) -> None:
        (folder / pipeline / f"{number}.json").write_bytes(content)

    return Place(str(folder), spoil)


def in_redis(port: int, prefix: str = "test") -> Place:
    import redis

    def spoil(pipeline: str, number: int, content: bytes) -> None:
        with redis.Redis(port=port) as client:
            client.hset(f"{prefix}:{{releases}}:releases:{pipeline}", str(number), content)

    return Place(f"redis://127.0.0.1:{port}/0?prefix={prefix}", spoil)
