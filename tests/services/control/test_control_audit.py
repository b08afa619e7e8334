"""Journals join the audit of control, on both databases; what was done to them is named; its head is exported."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from headrace.audit import heads
from headrace.audit.erasure import erase
from headrace.audit.journal_verification import JournalVerification
from headrace.audit.journals import Journal, erased_digest, line_digest
from headrace.catalog.access import Change
from headrace.catalog.records import CatalogRecords
from headrace.catalog.verification import verify
from headrace.resources.manifest import Verifier
from headrace.state import json_lines
from tests.control_service import ControlService
from tests.libs.audit.audit_home import DAY_S, Home
from tests.postgres_server import PostgresServer, postgres

_numbers = itertools.count()
LONG_S = 60.0


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CatalogRecords]:
    if request.param == "sqlite":
        address = str(tmp_path / "control.sqlite")
    else:
        address = request.getfixturevalue("postgres_server").create(f"audit{next(_numbers)}")
    opened = CatalogRecords.open(address, initialise=True)
    yield opened
    opened.close()


@pytest.fixture
def home(tmp_path: Path, records: CatalogRecords) -> Home:
    return Home(tmp_path, records)


def rewrite(path: Path, change: Callable[[list[bytes]], object]) -> None:
    """Behind everybody's back."""
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def test_batches_are_lines_of_the_chain(home: Home) -> None:
    home.loaded(1, 2)
    home.refused("10.0.0.1")
    home.follow()
    home.loaded(3)
    follower = home.follower()
    assert not follower.follow()
    assert not follower.follow()
    said = [(line["journal"], line["first"], line["last"], line["count"]) for line in home.lines("batch")]
    assert said == [("models", "1", "2", "2"), ("security", "1", "1", "1"), ("models", "3", "3", "1")]
    assert int(home.lines("batch")[2]["end"]) == home.models.stat().st_size
    # Nothing of persons is in the database.
    assert not any(b"10.0.0.1" in line.line for line in home.records.lines())
    verified = home.verify()
    assert (verified.findings, verified.notes) == ([], [])
    assert verified.counts == {"models": 3, "security": 1}
    assert verify(home.records) == []
    assert not home.gaps


def test_two_who_follow_write_each_line_once(home: Home) -> None:
    followers = [home.follower() for _ in range(4)]
    for _ in range(5):
        home.loaded(*range(20))
        threads = [Thread(target=follower.follow) for follower in followers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    home.follow()
    ends = [(int(line["first"]), int(line["last"])) for line in home.lines("batch")]
    assert [first for first, _ in ends] == [1, *(last + 1 for _, last in ends[:-1])]
    assert ends[-1][1] == 100
    assert home.verify().findings == []


def test_a_journal_that_is_not_as_it_was_is_a_line_and_told(home: Home) -> None:
    home.loaded(1, 2, 3)
    home.follow()
    rewrite(home.models, lambda lines: lines.pop())
    home.follow()
    [gap] = home.lines("gap")
    assert (gap["journal"], "shorter" in gap["reason"]) == ("models", True)
    assert home.gaps == [("models", gap["reason"])]
    home.follow()
    home.follow()
    assert len(home.lines("gap")) == 1
    # It was read again, and what the chain had before is missing.
    assert [line["last"] for line in home.lines("batch")] == ["3", "2"]
    [finding] = home.verify().findings
    assert finding == "journal models: models.jsonl has 2 lines; lines to 3 were removed from its end"
    assert any("shorter" in note for note in home.verify().notes)


def test_a_torn_line_is_a_line_and_no_tampering(home: Home) -> None:
    home.loaded(1)
    with home.models.open("ab") as file:
        file.write(b'{"at"')
    home.loaded(2)
    home.follow()
    [gap] = home.lines("gap")
    assert gap["reason"].startswith(
        "a power loss or a full disk cut off line 2 of the file that begins with "
    )
    assert len(home.gaps) == 1
    home.loaded(3)
    home.follow()
    assert [line["last"] for line in home.lines("batch")] == ["3", "4"]
    assert home.verify().findings == []


def _swap(lines: list[bytes]) -> None:
    lines[1], lines[2] = lines[2], lines[1]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda lines: lines.__setitem__(1, lines[1].replace(b"2", b"8")),
            "lines 1 to 3 are not those of line 2",
        ),
        (lambda lines: lines.pop(1), "has 4 lines; lines to 5 were removed from its end"),
        (lambda lines: lines.insert(1, lines[1]), "lines 1 to 3 are not those of line 2"),
        (_swap, "lines 1 to 3 are not those of line 2"),
        (lambda lines: lines.pop(), "has 4 lines; lines to 5 were removed from its end"),
        (lambda lines: lines.pop(0), "is not there any more, or its first line was altered"),
        (lambda lines: lines.clear(), "is not there any more, or its first line was altered"),
    ],
    ids=["flipped", "removed", "added", "reordered", "truncated", "first removed", "emptied"],
)
def test_what_was_done_to_a_journal_is_named(
    home: Home, change: Callable[[list[bytes]], object], found: str
) -> None:
    home.loaded(1, 2, 3)
    home.follow()
    home.loaded(4, 5)
    home.follow()
    assert home.verify().findings == []
    rewrite(home.models, change)
    assert any(found in finding for finding in home.verify().findings)


def test_a_journal_that_is_gone_and_one_that_is_elsewhere(home: Home) -> None:
    home.loaded(1)
    home.follow()
    verification = JournalVerification([])
    for line in home.records.lines():
        verification.add(line.number, json.loads(line.line))
    verification.compare()
    assert verification.findings == []
    assert verification.notes == ["journal models is not on this machine: its lines were not compared"]
    home.models.unlink()
    [finding] = home.verify().findings
    assert finding.startswith("journal models: its file with lines 1 to 1 that began with ")


def test_what_is_missing_since_the_history_was_begun_anew_is_a_note(home: Home) -> None:
    home.loaded(1, 2)
    home.follow()
    rewrite(home.models, lambda lines: lines.pop())
    home.records.begin_epoch(Change("ann", "records.restore", "records", reason="from a backup"))
    verified = home.verify()
    assert verified.findings == []
    assert "removed from its end (before the history was begun anew)" in verified.notes[0]


def test_erased_while_it_is_followed(home: Home) -> None:
    home.refused(*("10.0.0.1", "10.0.0.2") * 20)
    follower = home.follower()
    follower.follow()
    home.refused("10.0.0.1", rotated=1)
    home.refused("10.0.0.1", "10.0.0.3")
    erased = erase(Journal("security", home.security), home.access, "ann", {"client": "10.0.0.1"}, "asked")
    assert erased == 22
    home.refused("10.0.0.4")
    follower.follow()
    follower.follow()
    home.follow()
    verified = home.verify()
    assert verified.findings == []
    assert verified.counts["security"] == 44
    assert not home.gaps
    # Who replaces a line without saying so is found.
    last = home.security.read_bytes().splitlines()[-1]
    rewrite(
        home.security,
        lambda lines: lines.__setitem__(-1, b'{"erased": "%s"}\n' % line_digest(last).hex().encode()),
    )
    assert erased_digest(home.security.read_bytes().splitlines()[-1]) is not None
    [finding] = home.verify().findings
    assert finding.endswith("line 4 was erased, and no erasure was recorded")


@pytest.mark.parametrize("why", ["age", "size"])
def test_old_files_are_deleted_and_that_is_a_line(home: Home, why: str) -> None:
    for client in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        home.refused(client, rotated=1)
    for _ in range(3):
        home.follow()
    home.wall = time.time() + (2 * DAY_S if why == "age" else 0)
    if why == "size":
        home.retention_bytes = home.security.stat().st_size + 1
    home.follower().expire()
    assert [path.name for path in home.folder.glob("security.jsonl*")] == ["security.jsonl"]
    assert [line["reason"] for line in home.lines("expire")] == [f"retention by {why}"] * 2
    verified = home.verify()
    assert (verified.findings, verified.notes) == ([], [])
    # It is read on.
    home.refused("10.0.0.4")
    home.follow()
    assert home.lines("batch")[-1]["first"] == "2"
    assert not home.gaps


def test_what_was_not_read_yet_or_is_young_stays(home: Home) -> None:
    home.refused("10.0.0.1", rotated=1)
    home.follow()
    home.refused("10.0.0.2", rotated=1)
    home.refused("10.0.0.3", rotated=1)
    follower = home.follower()
    follower.expire()
    assert home.lines("expire") == []
    home.wall = time.time() + 2 * DAY_S
    follower.expire()
    # It has been read to its end, but nothing of the next one: whether it was the end is not known yet.
    assert home.lines("expire") == []
    home.follow()
    follower.expire()
    assert len(home.lines("expire")) == 1
    assert len(list(home.folder.glob("security.jsonl*"))) == 2


def test_one_journal_that_can_not_be_read_does_not_stop_the_others(home: Home) -> None:
    home.models.mkdir()
    home.refused("10.0.0.1")
    with pytest.raises(OSError, match="directory"):
        home.follow()
    assert [line["journal"] for line in home.lines("batch")] == ["security"]


def test_a_line_that_others_write_is_no_batch(home: Home) -> None:
    home.loaded(1, 2)
    home.follow()
    [batch] = home.lines("batch")
    forged = {**batch, "sha256": "00" * 32}
    home.records.change(Change("eve", "journal.batch", "models", details=forged))
    home.records.change(Change("eve", "journal.expire", "models", details=batch))
    home.models.unlink()
    assert len(home.verify().findings) == 1


def test_killed_again_and_again_each_line_is_there_once(tmp_path: Path) -> None:
    """kill -9 of control while it follows."""
    journal = tmp_path / "models.jsonl"
    settings = {"journals": {"models": str(journal)}, "poll_s": 0.001}
    with ControlService(audit=settings) as control:
        for round_ in range(8):
            for number in range(25):
                json_lines.append_entry(journal, {"event": "loaded", "version": f"{round_}.{number}"})
            if round_ % 2:
                control.kill()
                control.start()
        until(control, lambda last: last == 200)
        control.kill()
        records = CatalogRecords.open(control.database, initialise=False)
        home = Home(tmp_path, records)
        assert home.verify().findings == []
        ends = [(int(line["first"]), int(line["last"])) for line in home.lines("batch")]
        assert [first for first, _ in ends] == [1, *(last + 1 for _, last in ends[:-1])]
        assert verify(records) == []
        records.close()


def until(control: ControlService, done: Callable[[int], bool]) -> None:
    """The journal has been read up to a line that is right."""
    records, deadline = control.records(), time.monotonic() + LONG_S
    try:
        while True:
            found = [line for line in records.lines() if b'"journal.batch"' in line.line]
            last = found[-1].line.partition(b'"last":"')[2].partition(b'"')[0] if found else b"0"
            if done(int(last)):
                return
            assert time.monotonic() < deadline, control.log[-2000:]
            time.sleep(0.05)
    finally:
        records.close()


def test_the_head_is_exported_signed_and_a_folder_that_fails_stops_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("no folder")
    with ControlService(audit={"exported": str(outside), "export_s": 0.05}) as control:
        wait(lambda: "the folder for signed heads can't be used" in control.log)
        records = control.records()
        made = records.change(Change("ann", "note.write", "x"))
        outside.unlink()
        wait(lambda: outside.is_dir() and made.position.number in [h.number for h, *_ in heads.read(outside)])
        wait(lambda: "the folder for signed heads can be used again" in control.log)
        # What is there survives a kill, and the next process goes on.
        count = len(list(heads.read(outside)))
        control.kill()
        control.start()
        wait(lambda: len(list(heads.read(outside))) > count)
        trusted = Verifier([control.public_key])
        found = [
            (head.number, head.sha256, epoch)
            for head, epoch, content, signature in heads.read(outside)
            if trusted.signed(content, signature)
        ]
        assert len(found) == len(list(heads.read(outside)))
        assert found[-1] == (made.position.number, made.position.head, 1)
        records.close()


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
