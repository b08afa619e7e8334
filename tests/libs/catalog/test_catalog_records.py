"""What only the owner of a database may do, on both."""

import json
import multiprocessing
import threading
from collections.abc import Sequence
from datetime import datetime

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from headrace.catalog import changes, tables, verification
from headrace.catalog.access import KEPT_VERSIONS, LeaseToken, Position, Record
from headrace.catalog.errors import LeaseLostError, RecordChangedError, RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.catalog.waiters import Waiters
from tests.libs.catalog.records_contract import LONG_S, change, contents, error_of, write


def test_what_changed_since_a_number(records: CatalogRecords) -> None:
    records.change(change(write("a", b"1"), write("b", b"1"), write("d", b"1", kind="document")))
    since = records.change(change(write("a", b"2"))).position
    records.change(change(write("b", None)))
    newest = records.change(change(write("c", b"1"), write("d", b"2", kind="document"))).position
    changed = [
        Record("release", "b", 2, 4, None),
        Record("document", "d", 2, 5, b"2"),
        Record("release", "c", 1, 5, b"1"),
    ]
    assert records.changes_since(since.number) == (newest, changed)
    assert records.changes_since(since.number, ["document", "tenant"]) == (newest, changed[1:2])
    assert records.changes_since(newest.number) == (newest, [])
    assert [(r.name, r.version) for r in records.changes_since(0)[1]] == [
        ("a", 2),
        ("b", 2),
        ("d", 2),
        ("c", 1),
    ]


def test_pages_of_names(records: CatalogRecords) -> None:
    records.change(change(*(write(name, b"") for name in "abcde")))
    assert [r.name for r in records.list("release", limit=2)] == ["a", "b"]
    assert [r.name for r in records.list("release", after="b", limit=2)] == ["c", "d"]
    assert [line.number for line in records.lines_page(0, 1)] == [1]


def test_heads_of_numbers(records: CatalogRecords) -> None:
    made = [records.change(change()).position for _ in range(3)]
    assert [records.head_at(one.number) for one in made] == [one.head for one in made]
    assert records.head_at(made[-1].number + 1) is None
    assert records.head_at(0) is None


def test_a_new_epoch(records: CatalogRecords) -> None:
    first = records.position()
    old = [records.change(change()).position for _ in range(3)]
    begun = records.begin_epoch(change(write("flights", b"1"), action="records.recover", id="recover"))
    assert (begun.position.epoch, begun.position.number) == (2, 5)
    assert (
        records.begin_epoch(change(write("flights", b"1"), action="records.recover", id="recover")) == begun
    )
    after = records.change(change()).position
    assert after.epoch == 2
    far = records.begin_epoch(change(action="records.recover"), above=6).position
    assert far.epoch == 7
    assert [json.loads(line.line)["epoch"] for line in records.lines()] == [1, 1, 1, 1, 2, 2, 7]
    assert records.ancestors(1) == [first, begun.position, far]
    assert records.ancestors(4) == [first, old[-1], begun.position, after, far]
    assert verification.verify(records) == []


def test_when_the_newest_change_was_made(records: CatalogRecords) -> None:
    records.change(change())
    position, at_s = records.newest()
    [line] = records.lines(1)
    said = datetime.fromisoformat(json.loads(line.line)["at"])
    assert (position.number, abs(said.timestamp() - at_s) < 0.01) == (2, True)


def test_who_holds_a_lease(records: CatalogRecords) -> None:
    assert records.lease_holder("ladder") == ""
    token = records.take_lease("ladder", "control-1", LONG_S)
    assert records.lease_holder("ladder") == "control-1"
    records.give_back(LeaseToken("ladder", token))
    assert records.lease_holder("ladder") == ""


def test_what_was_closed_is_not_opened_again(records: CatalogRecords) -> None:
    records.close()
    for use in (records.position, lambda: records.change(change())):
        failed = error_of(use)
        assert isinstance(failed, RecordsUnavailableError)
        assert failed.why is Unavailable.UNREACHABLE


# Changes of other processes.


def write_many(address: str, name: str, count: int) -> None:
    """Runs in a process of its own."""
    records = CatalogRecords.open(address, initialise=True)
    for number in range(count):
        while True:
            version = max((r.version for r in records.read("release", "shared")), default=0)
            try:
                writes = [write(name, b"%d" % number, number), write("shared", name.encode(), version)]
                records.change(change(*writes))
                break
            except RecordChangedError:
                continue
    records.close()


def test_processes_that_begin_and_change_at_the_same_time(postgres_address: str) -> None:
    """They initialise an empty database at once, too."""
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=write_many, args=(postgres_address, f"n{n}", 10)) for n in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0] * 4
    records = CatalogRecords.open(postgres_address, initialise=False)
    assert records.position().number == 1 + 40
    assert [r.version for r in records.read("release", "shared")] == [40]
    assert [r.version for r in records.list("release", "n")] == [10] * 4
    assert verification.verify(records) == []
    records.close()


def test_a_change_of_another_process_wakes_who_waits(postgres_address: str) -> None:
    records = CatalogRecords.open(postgres_address, initialise=True)
    other = CatalogRecords.open(postgres_address, initialise=False)
    known = records.wait(None, LONG_S)
    waiting = threading.Timer(0.0, other.change, [change()])
    waiting.start()
    assert records.wait(known, LONG_S).number == known.number + 1
    waiting.join()
    for one in (records, other):
        one.close()


def pollers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "records-poll"}


def test_one_thread_polls_however_many_wait_and_none_when_nobody_does() -> None:
    polled = threading.Semaphore(0)

    def read() -> Position:
        polled.release()
        return Position(1, 1, b"")

    waiters = Waiters(read, interval_s=0.001)
    # Of other tests, which are about to end.
    others = pollers()
    known = waiters.wait(None, LONG_S)
    waiting = [threading.Thread(target=waiters.wait, args=(known, LONG_S)) for _ in range(5)]
    for one in waiting:
        one.start()
    for _ in range(20):
        polled.acquire()
    [poller] = pollers() - others
    waiters.publish(Position(1, 2, b""))
    for one in waiting:
        one.join()
    poller.join(LONG_S)
    assert not pollers() - others


def test_a_database_that_fails_is_said_to_who_waits_and_is_polled_again() -> None:
    answers: list[Position | RecordsUnavailableError] = [
        Position(1, 1, b""),
        RecordsUnavailableError(Unavailable.UNREACHABLE, "gone"),
        Position(1, 2, b""),
    ]

    def read() -> Position:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, RecordsUnavailableError):
            raise found
        return found

    waiters = Waiters(read, interval_s=0.001)
    known = waiters.wait(None, LONG_S)
    with pytest.raises(RecordsUnavailableError):
        waiters.wait(known, LONG_S)
    assert waiters.wait(known, LONG_S) == Position(1, 2, b"")
    waiters.close()


def test_a_poll_that_was_under_way_during_a_change_says_nothing() -> None:
    """It may have read before the change, and be answered after it: who knows the change would see the position go back."""
    answers = [Position(1, 1, b""), Position(1, 3, b"")]

    def read() -> Position:
        if len(answers) > 1:
            waiters.publish(Position(1, 2, b""))
            return answers.pop(0)
        return answers[0]

    waiters = Waiters(read, interval_s=LONG_S)
    assert waiters.wait(Position(1, 2, b""), LONG_S) == Position(1, 3, b"")
    waiters.close()


def test_who_waits_hears_of_an_error_that_nobody_thought_of() -> None:
    waiters = Waiters(lambda: Position(1, 1 // 0, b""))
    with pytest.raises(RecordsUnavailableError, match="ZeroDivisionError"):
        waiters.wait(None, LONG_S)
    waiters.close()


def test_a_database_that_went_back_is_said_to_who_waits() -> None:
    waiters = Waiters(lambda: Position(1, 1, b"old"), interval_s=0.001)
    assert waiters.wait(Position(1, 5, b""), LONG_S) == Position(1, 1, b"old")
    waiters.close()


# Versions, expectations, deletions and leases, against a model.


class RecordsMachine(RuleBasedStateMachine):
    address: str

    @initialize()
    def open(self) -> None:
        self.records = CatalogRecords.open(self.address, initialise=True)

        def begin_anew(connection: sa.Connection) -> None:
            for table in (tables.RECORDS, tables.AUDIT, tables.EPOCHS, tables.HEAD, tables.LEASES):
                connection.execute(table.delete())
            changes.first(connection)

        self.records.database.write(begin_anew)
        self.model: dict[str, list[bytes | None]] = {}
        self.number = 1
        self.token = ""

    @rule(
        names=st.lists(st.sampled_from("abc"), unique=True, max_size=3),
        content=st.none() | st.binary(max_size=3),
        behind=st.none() | st.integers(0, 2),
        fenced=st.booleans(),
    )
    def change(self, names: Sequence[str], content: bytes | None, behind: int | None, fenced: bool) -> None:
        versions = {name: len(self.model.get(name, [])) for name in names}
        writes = [
            write(n, content, None if behind is None else max(0, v - behind)) for n, v in versions.items()
        ]
        lease = LeaseToken("ladder", self.token or "none") if fenced else None
        sent = change(*writes, lease=lease)
        if fenced and not self.token:
            assert isinstance(error_of(lambda: self.records.change(sent)), LeaseLostError)
        elif any(one.expected not in (None, versions[one.name]) for one in writes):
            assert isinstance(error_of(lambda: self.records.change(sent)), RecordChangedError)
        else:
            made = self.records.change(sent)
            self.number += 1
            for one in writes:
                self.model.setdefault(one.name, []).append(content)
            assert made == self.records.change(sent)
            assert [r.version for r in made.records] == [versions[n] + 1 for n in names]

    @rule()
    def lease(self) -> None:
        if self.token:
            self.records.give_back(LeaseToken("ladder", self.token))
            self.token = ""
        else:
            self.token = self.records.take_lease("ladder", "a", LONG_S)

    @invariant()
    def holds_what_the_model_has(self) -> None:
        assert self.records.position().number == self.number
        for name, versions in self.model.items():
            found = contents(self.records, name)
            numbered = list(enumerate(versions, 1))[-KEPT_VERSIONS:]
            deleted = max((v for v, content in numbered if content is None), default=0)
            assert found == [one for one in reversed(numbered) if one[0] >= deleted]
        there = [name for name, versions in sorted(self.model.items()) if versions[-1] is not None]
        assert [r.name for r in self.records.list("release")] == there

    def teardown(self) -> None:
        if hasattr(self, "records"):
            assert verification.verify(self.records) == []
            self.records.close()


def test_records_do_what_a_model_does(address: str) -> None:
    class Machine(RecordsMachine):
        pass

    Machine.address = address
    run_state_machine_as_test(Machine, settings=settings(max_examples=15, stateful_step_count=30))
