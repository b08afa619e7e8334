"""What control writes for starts without it, and what it reads there."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from headrace.catalog.access import Change
from headrace.catalog.errors import RecordsDivergedError
from headrace.catalog.records import CatalogRecords
from headrace.catalog.remote import RemoteRecords
from headrace.repository.storage.store import open_store
from headrace.resources.artifacts import read_artifacts
from headrace.resources.manifest import SignatureError, VerifiedPart, Verifier, new_keys
from headrace.resources.snapshot import PARTS
from services.control.resources.feed import SERVICES
from tests.control_service import Here, control_here
from tests.libs.resources.following import until
from tests.services.control.following import deploy, first_release

KEYS = new_keys()


def part(folder: Path, service: str = "router") -> VerifiedPart | None:
    try:
        return read_artifacts(open_store(folder), Verifier([KEYS[1]]), service)
    except (OSError, SignatureError):
        return None


def number(folder: Path, service: str = "router") -> int:
    found = part(folder, service)
    return found.position.number if found else 0


@contextmanager
def control(folder: Path, artifacts: Path) -> Iterator[tuple[Here, RemoteRecords]]:
    with (
        control_here(folder, keys=KEYS, artifacts=str(artifacts)) as here,
        closing(RemoteRecords(here.target)) as records,
    ):
        yield here, records


def test_each_change_is_written_for_every_service(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with control(tmp_path / "one", store) as (_, records):
        until(lambda: number(store) == 1)
        first_release(records)
        newest = deploy(records, 2).position
        for service in SERVICES:
            until(lambda: number(store, service) == newest.number)  # noqa: B023  # it is called at once
            found = part(store, service)
            assert found.position == newest
            assert set(found.snapshot.names("release")) == {"flights"}
            assert {kind for kind, _ in found.snapshot.resources} <= {
                k for k, s in PARTS.items() if service in s
            }


def test_a_store_that_can_t_be_written_stops_no_change_and_is_said(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_text("a file is in the way")
    with control(tmp_path / "one", store) as (here, records):
        assert records.change(Change("me", "x", "y")).position.number == 2
        until(lambda: here.metric("headrace_control_artifacts_failing") == 1)
        store.unlink()
        until(lambda: number(store) == 2)
        until(lambda: here.metric("headrace_control_artifacts_failing") == 0)


def test_an_emptied_database_neither_overwrites_the_store_nor_is_changed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with control(tmp_path / "one", store) as (_, records):
        newest = first_release(records).position
        until(lambda: number(store) == newest.number)
    with control(tmp_path / "two", store) as (here, records):
        with pytest.raises(RecordsDivergedError, match="the artifact store"):
            records.change(Change("me", "x", "y"))
        assert part(store).position == newest
    # People begin anew: then it is written again.
    with closing(CatalogRecords.open(here.database, initialise=False)) as own:
        own.begin_epoch(Change("me", "records.recover", "records"))
    with control(tmp_path / "two", store) as (_, records):
        until(lambda: part(store).position.epoch == 2)
        assert records.change(Change("me", "x", "y")).position.number == 3


def test_what_another_key_signed_is_written_over(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with control_here(tmp_path / "one", artifacts=str(store)):
        until((store / "resources/router/manifest").exists)
    with control(tmp_path / "two", store) as (_, records):
        until(lambda: number(store) == 1)
        assert part(store).position == records.position()
