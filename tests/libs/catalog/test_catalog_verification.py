"""What was done to the database behind the audit's back is named."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

import pytest
import sqlalchemy as sa

from headrace.audit import chain
from headrace.audit.chain import Fault, Head
from headrace.catalog.access import KEPT_VERSIONS, AuditLine
from headrace.catalog.records import CatalogRecords
from headrace.catalog.tables import AUDIT, HEAD, RECORDS
from headrace.catalog.verification import verify
from tests.libs.catalog.records_contract import change, write

# In the fixture, change 1 initialises, 2 to 13 write versions 1 to 12 of `flights`, 14 and 15 write and delete `gone`.
VERSIONS = KEPT_VERSIONS + 2
LAST = VERSIONS + 3


@pytest.fixture
def filled(records: CatalogRecords) -> CatalogRecords:
    for number in range(VERSIONS):
        records.change(change(write("flights", b"%d" % number)))
    records.change(change(write("gone", b"1"), write("other", b"1")))
    records.change(change(write("gone", None)))
    assert verify(records) == []
    return records


def tamper(records: CatalogRecords, statement: sa.UpdateBase) -> None:
    def run(connection: sa.Connection) -> None:
        assert connection.execute(statement).rowcount != 0

    records.database.write(run)


def faults(records: CatalogRecords, *known: Head) -> list[tuple[Fault, int]]:
    return [(problem.fault, problem.number) for problem in verify(records, known)]


NEWEST = (RECORDS.c.name == "flights") & (RECORDS.c.version == VERSIONS)
TAMPERING = {
    "a content": (RECORDS.update().where(NEWEST).values(content=b"evil"), (Fault.ALTERED, VERSIONS + 1)),
    "an older content": (
        RECORDS.update().where(RECORDS.c.version == 5).values(content=b"evil"),
        (Fault.ALTERED, 6),
    ),
    "a content that is gone": (
        RECORDS.update().where(NEWEST).values(content=None),
        (Fault.ALTERED, VERSIONS + 1),
    ),
    "a deleted record that is back": (
        RECORDS.update().where(RECORDS.c.name == "gone").values(content=b"1"),
        (Fault.ALTERED, LAST),
    ),
    "a number": (RECORDS.update().where(NEWEST).values(number=3), (Fault.ALTERED, VERSIONS + 1)),
    "a version that is gone": (RECORDS.delete().where(NEWEST), (Fault.REMOVED, 0)),
    "a record that is gone": (RECORDS.delete().where(RECORDS.c.name == "other"), (Fault.REMOVED, 0)),
    "a record that no line says": (
        RECORDS.insert().values(kind="release", name="evil", version=1, number=3, content=b""),
        (Fault.ADDED, 3),
    ),
    "a version that no line says": (
        RECORDS.insert().values(kind="release", name="flights", version=VERSIONS + 1, number=3, content=b""),
        (Fault.ADDED, 3),
    ),
    "a line": (AUDIT.update().where(AUDIT.c.number == 4).values(line=b"{}"), (Fault.ALTERED, 4)),
    "a line that is gone": (AUDIT.delete().where(AUDIT.c.number == 4), (Fault.REMOVED, 4)),
    "the last line is gone": (AUDIT.delete().where(AUDIT.c.number == LAST), (Fault.TRUNCATED, LAST)),
    "the head": (HEAD.update().values(sha256=bytes(32)), (Fault.ALTERED, LAST)),
    "the head's epoch": (HEAD.update().values(epoch=3), (Fault.ALTERED, LAST)),
    "the head's number": (HEAD.update().values(number=LAST - 1), (Fault.ADDED, LAST)),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_what_was_tampered_with_is_named(filled: CatalogRecords, what: str) -> None:
    statement, expected = TAMPERING[what]
    tamper(filled, statement)
    assert faults(filled) == [expected]


def test_a_database_that_went_back_is_named_by_a_head_that_somebody_holds(filled: CatalogRecords) -> None:
    newest = filled.position()
    known = Head(newest.number, newest.head, "router-1")
    older = filled.head_at(LAST - 1)
    assert older is not None
    tamper(filled, AUDIT.delete().where(AUDIT.c.number == LAST))
    tamper(filled, HEAD.update().values(number=LAST - 1, sha256=older))
    tamper(filled, RECORDS.delete().where(RECORDS.c.number == LAST))
    tamper(
        filled,
        RECORDS.insert().values(kind="release", name="gone", version=1, number=LAST - 1, content=b"1"),
    )
    assert faults(filled) == []
    assert faults(filled, known) == [(Fault.ROLLED_BACK, LAST)]
    # Then it goes on, past the number that it had.
    for _ in range(3):
        filled.change(change())
    assert faults(filled) == []
    assert faults(filled, known) == [(Fault.ROLLED_BACK, LAST)]


def test_a_deleted_record_that_was_written_again_is_as_it_should_be(filled: CatalogRecords) -> None:
    for number in range(VERSIONS):
        filled.change(change(write("gone", b"%d" % number)))
        assert verify(filled) == []


def long_log(first: AuditLine, count: int) -> Iterator[dict[str, object]]:
    """Rows as `build` makes them, but quickly: they differ from the first one in number and hash."""
    begin, end = first.line.split(b'"number":1,')
    previous = chain.BEFORE_FIRST.hex().encode()
    for number in range(1, count + 1):
        line = (begin + b'"number":%d,' % number + end).replace(b"0" * 64, previous)
        sha256 = chain.digest(line)
        previous = sha256.hex().encode()
        yield {"number": number, "change_id": str(number), "line": line, "sha256": sha256}


@pytest.mark.slow
def test_a_million_lines_are_verified_within_a_minute(records: CatalogRecords) -> None:
    rows = long_log(next(records.lines()), 1_000_000)
    records.database.write(lambda connection: connection.execute(AUDIT.delete()))
    while page := [*islice(rows, 20_000)]:
        records.database.write(partial(sa.Connection.execute, statement=AUDIT.insert(), parameters=page))
        last = page[-1]
    tamper(records, HEAD.update().values(number=last["number"], sha256=last["sha256"]))
    begin = time.monotonic()
    assert verify(records) == []
    assert time.monotonic() - begin < 60
    tamper(records, AUDIT.delete().where(AUDIT.c.number == 500_000))
    assert faults(records) == [(Fault.REMOVED, 500_000)]


def test_a_log_is_read_page_by_page(records: CatalogRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.catalog.verification.PAGE", 2)
    for _ in range(4):
        records.change(change())
    assert verify(records) == []
    seen: list[int] = []
    position = records.position()
    assert (
        chain.verify(records.lines(), Head(position.number, position.head), (), lambda n, _: seen.append(n))
        == []
    )
    assert seen == [1, 2, 3, 4, 5]
