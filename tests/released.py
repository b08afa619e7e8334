"""Releases for tests: in a database that nobody follows, or at a control of this process, which services follow."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.catalog.access import Change, Write
from headrace.catalog.records import CatalogRecords
from headrace.catalog.remote import RemoteRecords
from headrace.releases.of_records import RecordReleases
from tests.control_service import Here, control_here, execute


def store_at(place: str) -> RecordReleases:
    """At a control: `control:TARGET`."""
    return RecordReleases(RemoteRecords(place.removeprefix("control:")))


def keep_document(store: RecordReleases, pipeline: str, revision: str, text: str) -> None:
    """A document before any release that names it."""
    write = Write("document", f"{pipeline}/{revision}", text.encode())
    store.records.change(Change("tests", "document.store", write.name, [write]))


@contextmanager
def releases_in(folder: Path) -> Iterator[RecordReleases]:
    """A store in a new database in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(RecordReleases(CatalogRecords.open(str(database(folder)), initialise=True))) as store:
        yield store


def database(folder: Path) -> Path:
    """Of `releases_in` and of `released`."""
    return folder / "control.sqlite"


def spoil(path: Path | str, pipeline: str, number: int, content: bytes) -> None:
    """Alters a stored release behind the database's back. Nothing was removed, so versions are numbers."""
    where = "kind = 'release' AND name = ? AND version = ?"
    execute(str(path), f"UPDATE records SET content = ? WHERE {where}", content, pipeline, number)


@dataclass(frozen=True, slots=True)
class Released:
    """Releases at a control."""

    store: RecordReleases
    control: Here

    @property
    def settings(self) -> dict[str, Any]:
        """Of a service that follows them. Blocks until control gives what is stored: ready may be who serves what was before."""
        while self.control.metric("headrace_control_position") != self.store.records.position().number:
            time.sleep(0.005)
        return {"control": self.client, "resources": {"keys": [str(self.control.public_key)]}}

    @property
    def client(self) -> dict[str, Any]:
        """The setting `control` of a service that changes them."""
        return {"target": self.control.target}


@contextmanager
def released(folder: Path, **settings: Any) -> Iterator[Released]:
    """A control whose database is in `folder`, which is made. `settings`: further ones of control."""
    with (
        control_here(folder, **settings) as control,
        closing(RecordReleases(RemoteRecords(control.target))) as store,
    ):
        yield Released(store, control)
