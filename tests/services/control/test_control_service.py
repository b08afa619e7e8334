"""The process: how it starts, what it does without its database, and that what it acknowledged stays."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # has no stubs

from headrace.api.control.v1.resources_pb2 import WatchResponse
from headrace.catalog.access import Change, Write
from headrace.catalog.errors import RecordsError, RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.catalog.remote import RemoteRecords
from headrace.hop.config import ConfigError
from headrace.hop.testing import served
from headrace.resources.follower_state import Next
from headrace.resources.manifest import new_keys
from services.control.wiring import SERVICE
from tests.control_service import ControlService, control_here
from tests.libs.catalog.records_contract import verified
from tests.libs.resources.following import until
from tests.services.control.following import LONG_S, Process, first_release


@pytest.fixture
def control() -> Iterator[ControlService]:
    service = ControlService()
    yield service
    service.close()


def serving(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        status = stub.Check(health_pb2.HealthCheckRequest(), timeout=LONG_S).status
    return bool(status == health_pb2.HealthCheckResponse.SERVING)


def test_a_database_that_is_not_initialised(control: ControlService) -> None:
    control.settings["initialise"] = False
    control.start(ready=False)
    records = control.records()
    until(control.socket.exists)
    until(lambda: "is not initialised" in control.log)
    assert not serving(control.target)
    with Process(control.target, control.public_key, "r") as router, pytest.raises(OSError, match="not init"):
        router.ask(1.0)
    for attempt in (
        lambda: records.change(Change("me", "x", "y")),
        lambda: records.take_lease("l", "me", 1),
        records.position,
    ):
        with pytest.raises(RecordsUnavailableError, match="not initialised") as error:
            attempt()
        assert error.value.why is Unavailable.NOT_INITIALISED
    assert not Path(control.database).exists()
    # Somebody does it; it comes up by itself.
    CatalogRecords.open(control.database, initialise=True).close()
    until(lambda: serving(control.target))
    assert records.position().number == 1
    records.close()


def test_a_database_that_another_process_has_is_taken_once_it_is_free(control: ControlService) -> None:
    other = CatalogRecords.open(control.database, initialise=True)
    control.start(ready=False)
    until(lambda: "another process has the database" in control.log)
    assert not serving(control.target)
    other.close()
    until(lambda: serving(control.target))
    assert control.stop() == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"signing_key": "/nowhere.pem"}, "signing_key: /nowhere.pem can't be used"),
        ({"signing_key": __file__}, "signing_key"),
        ({"database": "mysql://host/db"}, "database: "),
        ({"database": "postgresql://me:geheim@host/db"}, "database: "),
        ({"artifacts": "nowhere://bucket"}, "artifacts: "),
    ],
)
async def test_unusable_settings(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    (tmp_path / "key.pem").write_bytes(new_keys()[0])
    values = {"database": str(tmp_path / "c.sqlite"), "signing_key": tmp_path / "key.pem", **changes}
    with pytest.raises(ConfigError) as error:
        async with served(SERVICE, values):
            pass
    assert words in str(error.value)
    assert "geheim" not in str(error.value)


def test_what_it_acknowledged_is_there_after_a_kill(control: ControlService) -> None:
    """Again and again, while eight threads change: no acknowledged change is lost, none is half, none without its line."""
    acknowledged: dict[str, int] = {}
    ended = threading.Event()
    control.start()

    def change(name: str) -> None:
        records, version = control.records(), 0
        while not ended.is_set():
            with suppress(RecordsUnavailableError):
                made = records.change(Change(name, "x", name, pair(name, version)))
                acknowledged[f"{name}:{version}"] = made.position.number
                version += 1
        records.close()

    with ThreadPoolExecutor(8) as threads:
        changing = threads.map(change, [f"t{n}" for n in range(8)])
        for round_ in range(1, 4):
            wanted = round_ * 40
            until(lambda: len(acknowledged) >= wanted)  # noqa: B023  # it is called at once
            control.kill()
            control.start()
        ended.set()
        list(changing)
    control.stop()
    records = CatalogRecords.open(control.database, initialise=False)
    found = {line.number: line for line in records.lines()}
    assert verified(records) == []
    made = {n: json.loads(found[n].line)["writes"] for n in acknowledged.values()}
    assert len(made) == len(acknowledged), "each once"
    assert {len(writes) for writes in made.values()} == {2}
    records.close()


def pair(name: str, version: int) -> list[Write]:
    """Two removals, which need no other record."""
    content = b'{"number": %d, "version": %d}' % (version, version)
    return [Write("removal", f"{name}.{i}", content) for i in "ab"]


def test_after_a_start_changes_wait_until_the_data_plane_was_heard(tmp_path: Path) -> None:
    """The database was emptied while control was away; whoever has more says so before the first change is made."""
    keys = new_keys()
    with control_here(tmp_path / "old", keys=keys) as old, closing(RemoteRecords(old.target)) as records:
        first_release(records)
        with Process(old.target, keys[1], "r") as router:
            router.until(3)
    with (
        control_here(tmp_path / "long", keys=keys, settle_s=3600) as here,
        Process(here.target, keys[1], "new") as first,
    ):
        assert first.ask() == WatchResponse(), "nobody begins"
    with (
        control_here(tmp_path / "new", keys=keys, settle_s=1.0) as new,
        closing(RemoteRecords(new.target)) as records,
        Process(new.target, keys[1], "r") as again,
        Process(new.target, keys[1], "fresh") as fresh,
        ThreadPoolExecutor(2) as threads,
    ):
        changing = threads.submit(records.change, Change("me", "x", "y"))
        starting = threads.submit(fresh.step, LONG_S)
        again.state.part = router.state.part
        assert again.step(LONG_S).next is Next.DIVERGED
        with pytest.raises(RecordsError, match="headrace recover"):
            changing.result()
        assert starting.result().next is Next.DIVERGED, "it does not begin with what is older"
