"""Two processes of control on one PostgreSQL: there is no leader, and nothing is decided twice."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from headrace.catalog.access import Change, LeaseToken, Made
from headrace.catalog.errors import LeaseLostError, RecordsDivergedError, RecordsUnavailableError
from headrace.catalog.records import CatalogRecords
from headrace.catalog.remote import RemoteRecords
from headrace.releases import Release, Rollout, RolloutState
from headrace.releases.ladder import (
    LEASE,
    Action,
    Report,
    RolloutVerdict,
    answer_of,
    report_message,
)
from headrace.releases.of_records import RecordReleases
from headrace.resources.manifest import new_keys
from services.control.ladder.ladder import Ladder
from services.control.ladder.machine import PATIENCE_S
from services.control.metrics import Metrics
from tests.children import ends_with_tests
from tests.control_service import ROOT, ControlService
from tests.libs.catalog.records_contract import verified
from tests.libs.releases.release_stores import REVISION, TEXT, release
from tests.libs.resources.following import until
from tests.postgres_server import PostgresServer, postgres
from tests.released import keep_document
from tests.services.control.following import LONG_S, Process
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.monitoring.rollout_simulation import CANARY, keep_documents, release_of
from tests.stopped import send, stopped

# So long at most nobody acts where a control was killed or stands still.
TAKEOVER_S = 5.0
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


def test_what_one_changes_the_other_publishes(controls: list[ControlService]) -> None:
    with client(controls[0]) as one, Process(controls[1].target, KEYS[1], "r") as router:
        store = RecordReleases(one)
        keep_document(store, "flights", REVISION, TEXT)
        current, _ = store.current("flights")
        store.commit(release(current.number + 1 if current else 1))
        newest = one.position()
        router.until(newest.number)
        assert router.state.part.position == newest
        # Who has more than this one has read is no divergence.
        with Process(controls[0].target, KEYS[1], "r") as same:
            same.state.part = router.state.part
            assert not same.ask().diverged


def rolled_out(store: RecordReleases, **rollout: Any) -> Release:
    """The newest release now begins a rollout, which control has yet to notice."""
    current, _ = store.current("p")
    keep_documents(store, "p")
    number = current.number + 1 if current else 1
    made = release_of(Rollout(arm=CANARY, ladder=(0.5, 1.0), stage_s=0.01, **rollout))
    store.commit(made.model_copy(update={"number": number, "parent": number - 1}))
    return made


def rollout(store: RecordReleases) -> Rollout:
    current, _ = store.current("p")
    assert current is not None
    assert current.rollout is not None
    return current.rollout


def until_rolled_back(store: RecordReleases) -> None:
    until(lambda: rollout(store).state is RolloutState.ROLLED_BACK)


def ladder_of(records: CatalogRecords) -> Ladder:
    return Ladder(lambda: records, time.time, Metrics(CollectorRegistry()), Log())


def test_without_verdicts_the_clock_acts_once_whichever_control_lives(
    controls: list[ControlService],
) -> None:
    with client(controls[0]) as one, client(controls[1]) as other:
        for frozen, records in ((None, one), (controls[0], other), (controls[1], one)):
            store = RecordReleases(records)
            with stopped(frozen.pid) if frozen else nullcontext():
                began = time.monotonic()
                rolled_out(store, deadline_s=0.5, otherwise="roll_back")
                until_rolled_back(store)
                assert time.monotonic() - began < TAKEOVER_S + 0.5 + PATIENCE_S
        # Neither who was awake all the time nor who woke did anything more.
        assert [r.author for r in store.history("p")] == ["ladder", "ladder", "test"] * 3
        assert verified(one) == []


HOLDER = """
import sys
from headrace.catalog.errors import RecordsError
from headrace.catalog.remote import RemoteRecords
from headrace.releases.ladder import LEASE, Report, RolloutVerdict, answer_of, report_message
from tests.released import keep_document
records = RemoteRecords(sys.argv[1])
token = records.take_lease(LEASE, "old", float(sys.argv[2]))
print("taken" if token else "refused", flush=True)
number = int(sys.stdin.readline())
try:
    report = Report("p", number, RolloutVerdict.HARM, "harm", lease=token)
    print(answer_of(records.report_verdict(report_message(report))).action, flush=True)
except RecordsError as error:
    print(type(error).__name__, flush=True)
"""


def test_what_a_frozen_analyser_and_its_control_say_later_is_not_acted_upon(
    controls: list[ControlService],
) -> None:
    command = ends_with_tests(sys.executable, "-c", HOLDER, controls[0].target, "1.0")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        client(controls[1]) as records,
        subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as old,  # type: ignore[call-overload]  # by ** mypy finds no overload
    ):
        store = RecordReleases(records)
        rolled_out(store)
        until(lambda: rollout(store).since > 0)
        begun = store.history("p")[0].number
        assert old.stdout.readline() == "taken\n"
        # The process of control that it asks stands still with it, and goes on with it.
        began = time.monotonic()
        for frozen in (controls[0].pid, old.pid):
            send(frozen, signal.SIGSTOP)
        old.stdin.write(f"{begun}\n")
        old.stdin.flush()
        token = ""
        while not token:
            token = records.take_lease(LEASE, "new", LONG_S)
        assert time.monotonic() - began < TAKEOVER_S
        for frozen in (controls[0].pid, old.pid):
            send(frozen, signal.SIGCONT)
        assert old.stdout.readline() == f"{LeaseLostError.__name__}\n"
        assert store.history("p")[0].number == begun
        report = Report("p", begun, RolloutVerdict.MAY_STEP_UP, "fine", weight=1.0, lease=token)
        assert answer_of(records.report_verdict(report_message(report))).number == begun + 1
        records.give_back(LeaseToken(LEASE, token))


def test_who_stops_between_decision_and_commit_has_lost(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.create("interleaved")
    with (
        closing(CatalogRecords.open(address, initialise=True)) as one,
        closing(CatalogRecords.open(address, initialise=False)) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        slow, fast = ladder_of(one), ladder_of(other)
        store = RecordReleases(other)
        rolled_out(store)
        fast.tick()
        begun = store.history("p")[0].number
        report = Report("p", begun, RolloutVerdict.HARM, "harm", lease=other.take_lease(LEASE, "me", LONG_S))
        change, reached, go_on = one.change, threading.Event(), threading.Event()

        def stopped_before(made: Change) -> Made:
            reached.set()
            assert go_on.wait(LONG_S)
            return change(made)

        monkeypatch.setattr(one, "change", stopped_before)
        late = thread.submit(slow.report, report)
        assert reached.wait(LONG_S)
        assert fast.report(report).action is Action.ROLL_BACK
        go_on.set()
        assert (late.result().action, late.result().number) == (Action.HOLD, begun + 1)
        assert store.history("p")[0].number == begun + 1
        assert verified(other) == []


def test_what_diverged_from_one_is_changed_by_no_other(controls: list[ControlService]) -> None:
    with (
        client(controls[0]) as one,
        client(controls[1]) as other,
        Process(controls[0].target, KEYS[1], "r") as process,
    ):
        process.until(one.position().number)
        asked = process.state.request(0.0, (), ready=True)
        asked.have.number += 1
        change = Change("me", "automation.unfreeze", "all")
        until(lambda: process.watch(asked).diverged and refused(other, change))
        assert "what the database has not" in refused(other, change)
        other.begin_epoch(Change("me", "records.keep_database", "records"))
        until(lambda: not refused(other, change))


def refused(records: RemoteRecords, change: Change) -> str:
    """Why a change is not made; "": it was."""
    try:
        records.change(replace(change, id=uuid4().hex))
    except RecordsDivergedError as error:
        return str(error)
    return ""


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
