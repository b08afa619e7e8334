"""The process: how it starts, what it does without its database, and that what it acknowledged stays."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # has no stubs

from headrace.audit import chain
from headrace.catalog.access import Change, LeaseToken, Write
from headrace.catalog.errors import LeaseLostError, RecordsError, RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.catalog.remote import RemoteRecords
from headrace.hop.config import ConfigError
from headrace.hop.testing import served
from headrace.resources.follower_state import Next
from headrace.resources.manifest import new_keys
from services.control.wiring import SERVICE
from tests.children import ends_with_tests
from tests.control_service import ROOT, ControlService, control_here
from tests.services.control.following import LONG_S, Process, deploy, first_release


@pytest.fixture
def control() -> Iterator[ControlService]:
    service = ControlService()
    yield service
    service.close()


def until(holds: Callable[[], object], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def serving(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        status = stub.Check(health_pb2.HealthCheckRequest(), timeout=LONG_S).status
    return bool(status == health_pb2.HealthCheckResponse.SERVING)


def test_a_database_that_is_not_initialised_publishes_nothing_and_takes_nothing(
    control: ControlService,
) -> None:
    control.settings["initialise"] = False
    control.start(ready=False)
    records = control.records()
    until(control.socket.exists)
    until(lambda: "NOT_INITIALISED" in why(records))
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


def why(records: RemoteRecords) -> str:
    try:
        records.position()
    except RecordsUnavailableError as error:
        return error.why.name
    return ""


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
async def test_unusable_settings_are_refused_before_it_serves(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
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
        changing = [threads.submit(change, f"t{n}") for n in range(8)]
        for round_ in range(1, 6):
            wanted = round_ * 100
            until(lambda: len(acknowledged) >= wanted)  # noqa: B023  # it is called at once
            control.kill()
            control.start()
        ended.set()
        for one in changing:
            one.result()
    control.stop()
    records = CatalogRecords.open(control.database, initialise=False)
    found = {line.number: line for line in records.lines()}
    assert chain.verify(found.values(), head(records)) == []
    made = {n: json.loads(found[n].line)["writes"] for n in acknowledged.values()}
    assert len(made) == len(acknowledged), "each once"
    assert {len(writes) for writes in made.values()} == {2}
    records.close()


def head(records: CatalogRecords) -> chain.Head:
    position = records.position()
    return chain.Head(position.number, position.head)


def pair(name: str, version: int) -> list[Write]:
    """Two removals, which need no other record."""
    content = b'{"number": %d, "version": %d}' % (version, version)
    return [Write("removal", f"{name}.{i}", content) for i in "ab"]


def test_a_change_that_was_sent_to_a_control_that_is_restarted_is_made_once(control: ControlService) -> None:
    control.start()
    records = control.records()
    change = Change("me", "x", "y", pair("t", 0))
    control.kill()
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(records.change, change)
        control.start()
        made = sent.result()
    assert records.change(change) == made
    assert records.position() == made.position
    records.close()


def test_a_restart_costs_a_watcher_nothing(control: ControlService) -> None:
    control.start()
    records = control.records()
    first_release(records)
    with Process(control.target, control.public_key, "r") as router:
        router.until(3)
        control.stop()
        control.start()
        assert router.step().next is Next.NOTHING
        deploy(records, 2)
        router.until(4)
    records.close()


HOLDER = """
import sys
from headrace.catalog.access import Change, LeaseToken
from headrace.catalog.errors import RecordsError
from headrace.catalog.remote import RemoteRecords
records = RemoteRecords(sys.argv[1])
token = records.take_lease("ladder", "old", float(sys.argv[2]))
print("taken" if token else "refused", flush=True)
sys.stdin.readline()
try:
    records.change(Change("old", "rollout.step", "flights", lease=LeaseToken("ladder", token)))
    print("changed", flush=True)
except RecordsError as error:
    print(type(error).__name__, flush=True)
"""


def test_a_holder_of_a_lease_that_was_frozen_is_fenced(control: ControlService) -> None:
    control.start()
    records = control.records()
    command = ends_with_tests(sys.executable, "-c", HOLDER, control.target, "1.0")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as old:  # type: ignore[call-overload]  # by ** mypy finds no overload
        assert old.stdout.readline() == "taken\n"
        os.kill(old.pid, signal.SIGSTOP)
        old.stdin.write("\n")
        old.stdin.flush()
        token = ""
        while not token:
            token = records.take_lease("ladder", "new", LONG_S)
        before = records.change(Change("new", "rollout.step", "flights", lease=LeaseToken("ladder", token)))
        os.kill(old.pid, signal.SIGCONT)
        assert old.stdout.readline() == f"{LeaseLostError.__name__}\n"
    assert records.position() == before.position
    records.close()


def test_after_a_start_changes_wait_until_the_data_plane_was_heard(tmp_path: Path) -> None:
    """The database was emptied while control was away; whoever has more says so before the first change is made."""
    keys = new_keys()
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with control_here(tmp_path / "old", keys=keys) as old:
        records = RemoteRecords(old.target)
        first_release(records)
        with Process(old.target, keys[1], "r") as router:
            router.until(3)
        records.close()
    with control_here(tmp_path / "new", keys=keys, settle_s=1.0) as new:
        records = RemoteRecords(new.target)
        with (
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
        records.close()
