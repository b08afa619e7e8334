"""What was done to the database behind the audit's back is named."""

import pytest
import sqlalchemy as sa

from headrace.audit.chain import Fault, Head
from headrace.catalog.access import KEPT_VERSIONS
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


def added(name: str, version: int, number: int = 3, content: bytes = b"") -> sa.Insert:
    row = {"kind": "release", "name": name, "version": version, "number": number, "content": content}
    return RECORDS.insert().values(row)


NEWEST = (RECORDS.c.name == "flights") & (RECORDS.c.version == VERSIONS)
OF_NEWEST = (Fault.ALTERED, VERSIONS + 1)
GONE = RECORDS.c.name == "gone"
TAMPERING = {
    "a content": (RECORDS.update().where(NEWEST).values(content=b"evil"), OF_NEWEST),
    "an older one": (RECORDS.update().where(RECORDS.c.version == 5).values(content=b""), (Fault.ALTERED, 6)),
    "a content that is gone": (RECORDS.update().where(NEWEST).values(content=None), OF_NEWEST),
    "a deleted one is back": (RECORDS.update().where(GONE).values(content=b"1"), (Fault.ALTERED, LAST)),
    "a number": (RECORDS.update().where(NEWEST).values(number=3), OF_NEWEST),
    "a version that is gone": (RECORDS.delete().where(NEWEST), (Fault.REMOVED, 0)),
    "a record that is gone": (RECORDS.delete().where(RECORDS.c.name == "other"), (Fault.REMOVED, 0)),
    "a record that no line says": (added("evil", 1), (Fault.ADDED, 3)),
    "a version that no line says": (added("flights", VERSIONS + 1), (Fault.ADDED, 3)),
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


def test_a_deleted_record_that_was_written_again_is_as_it_should_be(filled: CatalogRecords) -> None:
    for number in range(VERSIONS):
        filled.change(change(write("gone", b"%d" % number)))
        assert verify(filled) == []


def test_a_log_is_read_page_by_page(records: CatalogRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.catalog.verification.PAGE", 2)
    for _ in range(4):
        records.change(change())
    assert verify(records) == []
    tamper(records, AUDIT.delete().where(AUDIT.c.number == 4))
    assert faults(records) == [(Fault.REMOVED, 4)]
