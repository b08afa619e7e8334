"""What only the owner of a database may do, on both."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from headrace.catalog import verification
from headrace.catalog.access import Record
from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from tests.control_service import execute
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


@pytest.mark.parametrize("column", ["head.sha256", "records.content", "audit.line"])
def test_a_text_in_place_of_bytes_is_damage(tmp_path: Path, column: str) -> None:
    address = str(tmp_path / "control.db")
    with closing(CatalogRecords.open(address, initialise=True)) as records:
        records.change(change(write("a", b"1")))
        table, name = column.split(".")
        execute(address, f"UPDATE {table} SET {name} = 'text'")
        with pytest.raises(RecordsUnavailableError) as failed:
            records.position(), records.read("release", "a"), list(records.lines())
    assert failed.value.why is Unavailable.DAMAGED


def test_a_change_of_this_process_is_not_polled_for(
    records: CatalogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.catalog.records.POLL_S", 10 * LONG_S)
    known = records.position()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(records.wait, known, 10 * LONG_S)
        made = records.change(change())
        assert waiting.result(LONG_S) == made.position
