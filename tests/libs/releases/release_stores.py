"""Stores of releases to test, and releases to put into them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.releases import Release
from headrace.releases.document import validated
from headrace.releases.place import open_store
from headrace.releases.store import ReleaseStore

TEXT = "pipeline: flights\n"
REVISION = hashlib.sha256(TEXT.encode()).hexdigest()
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
        store = open_store(self.setting)
        self._open.append(store)
        return store

    def close(self) -> None:
        for store in self._open:
            store.close()


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
