"""Two processes of control on one PostgreSQL: there is no leader, and nothing is decided twice."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from headrace.catalog.access import Change, LeaseToken
from headrace.catalog.errors import LeaseLostError, RecordsUnavailableError
from headrace.catalog.remote import RemoteRecords
from headrace.releases import StaleError
from headrace.releases.of_records import RecordReleases
from headrace.resources.manifest import new_keys
from tests.children import ends_with_tests
from tests.control_service import ROOT, ControlService
from tests.libs.catalog.records_contract import verified
from tests.libs.releases.release_stores import REVISION, TEXT, release
from tests.libs.resources.following import until
from tests.postgres_server import PostgresServer, postgres
from tests.services.control.following import LONG_S, Process, first_release
from tests.stopped import send

DEPLOYS = 20
KEYS = new_keys()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres("fsync=off") as found:
        yield found


@pytest.fixture(scope="module")
def controls(server: PostgresServer) -> Iterator[list[ControlService]]:
    """Both at once on a database that is empty."""
    address = server.create("control")
    with ExitStack() as stack:
        found = [ControlService(address, keys=KEYS) for _ in range(2)]
        for one in found:
            stack.callback(one.close)
            one.start(ready=False)
        for one in found:
            records = stack.enter_context(client(one))
            assert records.position().number >= 1
        yield found


def client(control: ControlService) -> closing[RemoteRecords]:
    return closing(control.records())


def test_of_twenty_deploys_at_once_one_wins(controls: list[ControlService]) -> None:
    with client(controls[0]) as one, client(controls[1]) as other:
        stores = [RecordReleases(records) for records in (one, other)]
        first_release(one)
        for number in range(2, 5):
            barrier = threading.Barrier(DEPLOYS)

            def deploy(who: int, number: int = number, barrier: threading.Barrier = barrier) -> str:
                barrier.wait()
                try:
                    stores[who % 2].commit(release(number, author=f"a{who}"))
                except StaleError as error:
                    return f"stale {error.number}"
                return f"a{who}"

            with ThreadPoolExecutor(DEPLOYS) as threads:
                found = Counter(threads.map(deploy, range(DEPLOYS)))
            assert found.pop(f"stale {number}") == DEPLOYS - 1
            [won] = found
            assert [store.current("flights")[0].author for store in stores] == [won] * 2
        assert verified(one) == []


def test_what_one_changes_the_other_publishes(controls: list[ControlService]) -> None:
    with client(controls[0]) as one, Process(controls[1].target, KEYS[1], "r") as router:
        store = RecordReleases(one)
        store.keep_document("flights", REVISION, TEXT)
        current, _ = store.current("flights")
        store.commit(release(current.number + 1 if current else 1))
        newest = one.position()
        router.until(newest.number)
        assert router.state.part.position == newest
        # Who has more than this one has read is no divergence.
        with Process(controls[0].target, KEYS[1], "r") as same:
            same.state.part = router.state.part
            assert not same.ask().diverged


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


def test_a_frozen_holder_of_a_lease_is_fenced_by_the_other(controls: list[ControlService]) -> None:
    command = ends_with_tests(sys.executable, "-c", HOLDER, controls[0].target, "1.0")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        client(controls[1]) as records,
        subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as old,  # type: ignore[call-overload]  # by ** mypy finds no overload
    ):
        assert old.stdout.readline() == "taken\n"
        # The process of control that it asks stands still with it, and goes on with it.
        for frozen in (controls[0].pid, old.pid):
            send(frozen, signal.SIGSTOP)
        old.stdin.write("\n")
        old.stdin.flush()
        token = ""
        while not token:
            token = records.take_lease("ladder", "new", LONG_S)
        made = records.change(Change("new", "rollout.step", "flights", lease=LeaseToken("ladder", token)))
        for frozen in (controls[0].pid, old.pid):
            send(frozen, signal.SIGCONT)
        assert old.stdout.readline() == f"{LeaseLostError.__name__}\n"
        assert records.position() == made.position
        records.give_back(LeaseToken("ladder", token))


def test_the_database_is_away(server: PostgresServer, controls: list[ControlService]) -> None:
    with client(controls[0]) as records, Process(controls[0].target, KEYS[1], "r") as router:
        router.until(1)
        records.change(Change("me", "x", "y"))
        router.until(records.position().number)
        server.stop()
        try:
            with (
                closing(RemoteRecords(controls[0].target, patience_s=0.0)) as impatient,
                pytest.raises(RecordsUnavailableError, match="does not answer"),
            ):
                impatient.change(Change("me", "x", "y"))
            # Who follows is not disturbed.
            assert not router.ask().diverged
            until(lambda: "the database can't be used" in controls[0].log)
        finally:
            server.start()
        made = records.change(Change("me", "x", "y"))
        router.until(made.position.number)
        until(lambda: "the database can be used again" in controls[0].log)
