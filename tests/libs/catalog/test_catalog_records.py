"""What only the owner of a database may do, on both."""

import json
import threading
from datetime import datetime

import pytest

from headrace.catalog import verification
from headrace.catalog.access import Position, Record
from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.catalog.waiters import Waiters
from tests.libs.catalog.records_contract import LONG_S, change, write


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


def test_pages_of_names_and_lines_and_heads_of_numbers(records: CatalogRecords) -> None:
    records.change(change(*(write(name, b"") for name in "abcde")))
    assert [r.name for r in records.list("release", limit=2)] == ["a", "b"]
    assert [r.name for r in records.list("release", after="b", limit=2)] == ["c", "d"]
    assert [line.number for line in records.lines_page(0, 1)] == [1]
    made = [records.change(change()).position for _ in range(3)]
    assert [records.head_at(one.number) for one in made] == [one.head for one in made]
    assert records.head_at(made[-1].number + 1) is records.head_at(0) is None
    (newest, at_s), [line] = records.newest(), records.lines(4)
    said = datetime.fromisoformat(json.loads(line.line)["at"])
    assert (newest, abs(said.timestamp() - at_s) < 0.01) == (made[-1], True)


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
    gone = RecordsUnavailableError(Unavailable.UNREACHABLE, "gone")
    answers: list[Position | Exception] = [
        Position(1, 5, b""),
        gone,
        ZeroDivisionError(),
        Position(1, 2, b""),
    ]

    def read() -> Position:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    waiters = Waiters(read, interval_s=LONG_S)  # one poll for each wait
    known = waiters.wait(None, LONG_S)
    for problem in ("gone", "ZeroDivisionError"):
        with pytest.raises(RecordsUnavailableError, match=problem):
            waiters.wait(known, LONG_S)
    assert waiters.wait(known, LONG_S) == Position(1, 2, b""), "it went back"
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
