"""Stores whose files can be looked at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.fs

from headrace.events import Mask
from services.monitoring.events.query import find
from services.monitoring.events.store import Erased
from services.monitoring.events.values import Erasure, Query
from tests.services.monitoring.monitoring_events import World


class Place(World):
    """Where files can be looked at and damaged."""

    def __init__(
        self, address: str, files: str, raw: pyarrow.fs.FileSystem, root: str, **settings: Any
    ) -> None:
        super().__init__(Path(), address, files, **settings)
        self._raw, self._root = raw, root

    def content(self, path: str) -> bytes:
        with self._raw.open_input_file(f"{self._root}/{path}") as file:
            return bytes(file.read())

    def put(self, path: str, content: bytes) -> None:
        with self._raw.open_output_stream(f"{self._root}/{path}") as stream:
            stream.write(content)

    def delete(self, path: str) -> None:
        self._raw.delete_file(f"{self._root}/{path}")

    @property
    def requests(self) -> list[str]:
        return requests(self)


def requests(world: World, query: Query | None = None) -> list[str]:
    query = query or Query(limit=1000)
    return sorted(str(e["request_id"]) for e in find(world.store, query).events)


def erase(world: World, who: Erasure, mask: Mask) -> Erased:
    subjects = [
        replace(one, masked=mask.hash(one.column, one.value.encode()) if mask.finds else None)
        for one in who.subjects
    ]
    return world.store.erase(replace(who, subjects=tuple(subjects)))
