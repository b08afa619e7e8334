"""Journals: each line is in one batch, whatever happens to the files between two looks."""

import fcntl
import itertools
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.audit.journals import Batch, Journal, JournalPosition, Reading, batch_digest, line_digest

START = JournalPosition()


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    path = tmp_path / "models.jsonl"
    path.write_bytes(lines("one", "two", "three"))
    return Journal("models", path)


def read(journal: Journal, after: JournalPosition = START, limit: int = 10) -> Reading:
    """As the process that was there before, and as one that has just begun: they read the same."""
    found = journal.read(after, limit)
    assert Journal(journal.name, journal.path).read(after, limit) == found
    return found


def test_a_batch_names_its_lines(journal: Journal) -> None:
    digests = [line_digest(text.encode()) for text in ("one", "two", "three")]
    first = read(journal, limit=2)
    assert first.batch == Batch(digests[0].hex()[:16], 1, 2, 8, batch_digest(digests[:2]))
    assert Batch.of(json.loads(json.dumps(first.batch.details()))) == first.batch
    assert first.batch.details()["count"] == "2"
    assert JournalPosition.from_bytes(first.position.to_bytes()) == first.position
    rest = read(journal, first.position)
    assert rest.batch == Batch(digests[0].hex()[:16], 3, 3, 14, batch_digest(digests[2:]))
    assert read(journal, rest.position) == Reading(rest.position)


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    journal = Journal("models", tmp_path / "models.jsonl")
    assert read(journal) == Reading(START)
    journal.path.write_bytes(b"half")
    assert read(journal) == Reading(START)


def test_half_a_line_is_read_once_it_is_whole(journal: Journal) -> None:
    position = read(journal).position
    with journal.path.open("ab") as file:
        file.write(b"fo")
        file.flush()
        assert read(journal, position) == Reading(position)
        file.write(b"ur\n")
    found = read(journal, position).batch
    assert found is not None
    assert found.sha256 == batch_digest([line_digest(b"four")])


@pytest.mark.parametrize("when", ["while it was away", "behind its back"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lines("one", "two"), "is shorter than it was, or line 3 of it was altered"),
        (lines("one", "two", "thr33"), "is shorter than it was, or line 3 of it was altered"),
        (lines("one", "three"), "is shorter than it was, or line 3 of it was altered"),
        (lines("0ne", "two", "three"), "is not there any more, or its first line was altered"),
        (None, "its file is not there any more"),
        (b"", "its file is not there any more"),
    ],
)
def test_what_happened_to_it_is_named_and_it_is_read_again(
    journal: Journal, content: bytes | None, problem: str, when: str
) -> None:
    position = journal.read(START, 10).position
    if when == "behind its back":
        journal.path.unlink()
    if content is not None:
        journal.path.write_bytes(content)
    elif journal.path.exists():
        journal.path.unlink()
    found = read(journal, position)
    assert problem in found.problem
    assert (found.position, found.batch) == (START, None)
    # From the start, and once.
    again = read(journal, found.position)
    assert (again.batch is not None) == bool(content)
    assert not again.problem


def test_nothing_is_read_while_somebody_writes(journal: Journal) -> None:
    with journal.path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read(journal) == Reading(START)
    assert read(journal).batch is not None


def test_a_line_that_was_cut_off_is_a_line_and_named(journal: Journal) -> None:
    with journal.path.open("ab") as file:
        file.write(b'{"ev\x1e{"torn": true}\n' + lines("five"))
    found = read(journal)
    assert found.torn == (4,)
    assert found.batch is not None
    assert found.batch.last == 5


def test_what_is_read_is_durable_first(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    journal.read(START, 10)
    assert synced == [journal.path.stat().st_ino]


def test_a_file_that_got_the_number_of_the_one_that_was_replaced_is_read_on(journal: Journal) -> None:
    position = journal.read(START, 10).position
    gone = "".join(f'{{"erased": "{line_digest(text).hex()}"}}\n' for text in (b"one", b"two"))
    # In place, so that the inode is the same.
    journal.path.write_bytes(gone.encode() + lines("three", "four"))
    found = journal.read(position, 10)
    assert found.problem == ""
    assert found.batch is not None
    assert (found.batch.first, found.batch.sha256) == (4, batch_digest([line_digest(b"four")]))


_STEPS = st.lists(st.sampled_from(["line", "rotate", "read", "read one", "restart", "erase"]), max_size=40)


@given(steps=_STEPS)
@settings(max_examples=60, deadline=None)
def test_each_line_is_in_one_batch_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "security.jsonl"
    journal, position, written = Journal("security", path), START, []
    found: dict[str, list[Batch]] = {}
    counter = itertools.count()
    for step in [*steps, *["read"] * 40]:
        if step == "line":
            text = f"line {next(counter)}".encode()
            written.append(line_digest(text))
            with path.open("ab") as file:
                file.write(text + b"\n")
        elif step == "rotate" and path.exists():
            for number in range(len(steps), 0, -1):
                if (old := Path(f"{path}.{number}")).exists():
                    old.rename(f"{path}.{number + 1}")
            path.rename(f"{path}.1")
        elif step == "restart":
            journal = Journal("security", path)
        elif step == "erase":
            for old in journal.paths():
                if old.exists():
                    digests = (line_digest(line).hex() for line in old.read_bytes().splitlines())
                    content = "".join(f'{{"erased": "{digest}"}}\n' for digest in digests)
                    old.with_name("fresh").write_text(content)
                    old.with_name("fresh").rename(old)
        elif step.startswith("read"):
            reading = journal.read(position, 1 if step == "read one" else 100)
            assert not reading.problem
            position = reading.position
            if reading.batch is not None:
                found.setdefault(reading.batch.file, []).append(reading.batch)
    seen = []
    for old, identity in journal.files():
        lines_of = [line_digest(line) for line in old.read_bytes().splitlines()]
        batches = found.pop(identity)
        ends = [(batch.first, batch.last) for batch in batches]
        assert [first for first, _ in ends] == [1, *(last + 1 for _, last in ends[:-1])]
        assert ends[-1][1] == len(lines_of)
        assert [b.sha256 for b in batches] == [batch_digest(lines_of[a - 1 : z]) for a, z in ends]
        seen += lines_of
    assert not found
    assert seen == written
