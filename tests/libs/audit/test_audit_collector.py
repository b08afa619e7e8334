"""Journals in the log: each line once and in order, whatever happens to writer, files or disk; persons can be erased."""

import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.audit.access import AccessError
from headrace.audit.persons.erasure import erase, expire
from headrace.audit.persons.payloads import Payload, Payloads
from headrace.audit.reader import Reader
from headrace.audit.records import Record, decode
from headrace.audit.tiles import TileFiles
from headrace.state import chain
from tests.libs.audit.audit_logs import NOON, SIGNER, Home, Killed, KilledError, quick, release, texts


def records(home: Home) -> list[Record]:
    """All entries."""
    log, _ = home.collector()
    tiles = TileFiles(home.log, log.size)
    log.close()
    return [decode(e) for i in range(-(-tiles.size // 256)) for e in tiles.bundle(i)]


def test_lines_come_into_the_log_once_and_in_order(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.loaded(1, 2)
    home.refused("10.0.0.1")
    home.access.allow("read", "ann", ["operate"])
    assert home.collect() == 4
    assert home.collect() == 0
    home.loaded(3)
    assert home.collect() == 1
    found = records(home)
    assert [(r.source, r.kind, r.place.line) for r in found] == [
        ("models", "loaded", 1),
        ("models", "loaded", 2),
        ("security", "denied", 1),
        ("audit", "read", 1),
        ("models", "loaded", 3),
    ]
    assert [json.loads(r.text)["version"] for r in found if r.source == "models"] == ["1", "2", "3"]
    report = home.verify()
    assert report.holds, texts(report)
    assert report.records == {"models": 3, "security": 1, "audit": 1}


def test_the_log_alone_says_where_to_go_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.loaded(*range(300))
    home.collect()
    (tmp_path / "places.json").write_text("{")
    home.loaded(300)
    assert home.collect() == 1
    assert home.verify().holds


def test_nobody_can_read_or_guess_a_person_in_the_log(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.refused("10.0.0.1", "10.0.0.1")
    home.collect()
    in_log = b"".join(p.read_bytes() for p in home.log.rglob("*") if p.is_file())
    assert b"10.0.0" not in in_log
    assert b"acme" not in in_log
    one, two = records(home)
    assert one.commitment != two.commitment


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=4),
    kills=st.lists(st.tuples(st.integers(1, 14), st.sampled_from(["before", "within", "after"])), max_size=4),
)
def test_each_line_is_in_the_log_once_whenever_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]], kills: list[tuple[int, str]]
) -> None:
    home, made = Home(tmp_path_factory.mktemp("home")), 0
    for number, (loaded, refused) in enumerate(steps):
        home.loaded(*range(made, made + loaded))
        home.refused(*(f"10.0.{number}.{i}" for i in range(refused)))
        made += loaded
        log = None
        try:
            log, collector = home.collector(Killed(*kills[number]) if number < len(kills) else quick)
            while collector.collect():
                collector.publish()
        except KilledError:
            pass
        finally:
            if log is not None:
                release(log)
    home.collect()
    found = records(home)
    assert [json.loads(r.text)["version"] for r in found if r.source == "models"] == [
        str(i) for i in range(made)
    ]
    assert sum(r.source == "security" for r in found) == sum(r for _, r in steps)
    assert home.verify().holds


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.refused("10.0.0.1")
    with home.security.open("a") as file:
        file.write('{"kind":"den')
        file.flush()
        assert home.collect() == 1
        file.write('ied"}\n')
    assert home.collect() == 1
    assert home.verify().holds


def test_renamed_files_are_read_to_their_end_first(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.refused("10.0.0.1")
    home.collect()
    home.refused("10.0.0.2")
    home.security.rename(f"{home.security}.1")
    home.refused("10.0.0.3")
    assert home.collect() == 2
    clients = [
        json.loads(p.text)["client"] for s in home.payloads.segments() for p in home.payloads.read(s).values()
    ]
    assert clients == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    report = home.verify()
    assert report.holds, texts(report)


def test_lines_that_went_before_they_were_taken_are_a_gap_in_the_log(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.refused("10.0.0.1")
    home.collect()
    home.security.unlink()
    home.refused("10.0.0.2")
    assert home.collect() == 2
    home.security.unlink()
    assert home.collect() == 1
    assert home.collect() == 0
    assert [r.kind for r in records(home)] == ["denied", "journal_gap", "denied", "journal_gap"]
    notes = " ".join(home.verify().notes)
    assert "entry 1: journal security" in notes
    assert "not there any more" in notes


def test_a_line_of_any_size_and_bytes_is_taken(tmp_path: Path) -> None:
    home = Home(tmp_path)
    lines = [
        b"x" * 70_000,
        b"",
        b"\xff\xfe",
        b"[1]",
        b'{"kind":"\\ud800","at":3}',
        b'{"a":' * 5000,
        "ü\u2028".encode(),
    ]
    home.models.write_bytes(b"\n".join(lines) + b"\n")
    assert home.collect() == len(lines)
    found = records(home)
    assert (bool(found[0].commitment), found[0].text) == (True, "")
    assert [r.text.encode("utf-8", "surrogateescape") for r in found[1:]] == lines[1:]


def test_a_writer_that_hangs_with_the_lock_holds_up_nobody_else(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.loaded(1)
    home.access.allow("read", "ann", ["operate"])
    with home.models.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert home.collect() == 1
    assert home.collect() == 1


def relinked(lines: list[bytes]) -> list[bytes]:
    """A chain that is whole in itself, with another line 2."""
    made, last = [], chain.FIRST
    for number, line in enumerate(lines, 1):
        entry = json.loads(line) | ({"who": "nobody"} if number == 2 else {})
        made.append(chain.linked(entry, last) + b"\n")
        last = chain.hash_of(made[-1][:-1])
    return made


HARMS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "first line altered": (
        lambda lines: [lines[0].replace(b'"now"', b'"noW"'), *lines[1:]],
        "its first line was altered",
    ),
    "byte flipped": (
        lambda lines: [lines[0], lines[1].replace(b'"now"', b'"noW"'), *lines[2:]],
        "line 2 is not the one",
    ),
    "removed": (lambda lines: [lines[0], *lines[2:]], "line 2 is not the one"),
    "first removed": (lambda lines: lines[1:], "does not begin with the line"),
    "truncated": (lambda lines: lines[:-1], "has 3 lines; the log has 4 of it: some were removed at the end"),
    "reordered": (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2 is not the one"),
    "added": (lambda lines: [*lines[:2], lines[1], *lines[2:]], "line 3 is not the one"),
    "added at the end": (lambda lines: [*lines, lines[3]], "line 5: the chain is broken"),
    "forged whole": (relinked, "line 2 is not the one"),
}


@pytest.mark.parametrize("harm", sorted(HARMS))
def test_a_chain_that_was_changed_is_found_with_its_line(tmp_path: Path, harm: str) -> None:
    home = Home(tmp_path)
    home.loaded(1, 2, 3, 4)
    home.released(1, 2, 3, 4)
    home.collect()
    assert home.verify().holds
    path = home.models
    change, says = HARMS[harm]
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    found = home.verify().findings
    assert {f.where for f in found} == {"journal models"}
    assert says in found[0].text
    assert str(path) in found[0].text
    path.unlink()
    assert "was removed; the log has its lines" in texts(home.verify())


def test_erasing_a_person_keeps_the_log_valid(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.refused("10.0.0.1", "10.0.0.2", "10.0.0.1")
    home.collect()
    root = home.verify().root
    assert erase(home.payloads, home.access, "ann", {"client": "10.0.0.1"}, "she asked") == 2
    assert erase(home.payloads, home.access, "ann", {"client": "10.0.0.1"}, "again") == 0
    everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*.jsonl") if p != home.security)
    assert b"10.0.0.1" not in everything
    assert b"10.0.0.2" in everything
    for _ in range(2):  # before and after the act itself is in the log
        report = home.verify()
        assert report.holds, texts(report)
        assert "2 lines that told of persons" in " ".join(report.notes)
        assert home.collect() in (0, 1)
    assert root != home.verify().root
    with pytest.raises(ValueError, match="must name"):
        erase(home.payloads, home.access, "ann", {"client": ""}, "")


def test_erasing_without_a_record_is_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.refused("10.0.0.1", "10.0.0.2")
    home.collect()
    [segment] = home.payloads.segments()
    path = tmp_path / "persons" / f"{segment}.jsonl"
    before = path.read_bytes()
    home.payloads.erase(segment, [records(home)[0].commitment])
    assert "entry 0: its line was erased, and no erasure was recorded" in texts(home.verify())
    path.write_bytes(before.splitlines(keepends=True)[1])
    assert "entry 0: its line is missing" in texts(home.verify())
    path.write_bytes(before.replace(b"10.0.0.2", b"10.0.0.9"))
    assert "entry 1: its line in segment" in texts(home.verify())
    path.unlink()
    assert f"segment {segment} with 2 lines is not there" in texts(home.verify())


def test_old_segments_expire(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.refused("10.0.0.1")
    home.collect()
    assert expire(home.payloads, home.access, "headrace", NOON.date()) == []
    later = NOON.date().replace(day=27)
    assert expire(home.payloads, home.access, "headrace", later) == ["20261126-0001"]
    assert home.payloads.segments() == []
    report = home.verify()
    assert report.holds, texts(report)


def test_the_oldest_segments_go_when_all_are_too_large_and_the_log_holds(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.payloads = Payloads(tmp_path / "persons", lambda: NOON, max_bytes=1)
    for number in range(5):
        home.refused(f"10.0.0.{number}")
        home.collect()
    sizes = [(tmp_path / "persons" / f"{s}.jsonl").stat().st_size for s in home.payloads.segments()]
    expired = expire(home.payloads, home.access, "headrace", NOON.date(), sum(sizes[2:]))
    assert expired == ["20261126-0001", "20261126-0002"]
    assert expire(home.payloads, home.access, "headrace", NOON.date(), sum(sizes[2:])) == []
    for _ in range(2):  # before and after the act itself is in the log
        report = home.verify()
        assert report.holds, texts(report)
        assert "2 lines that told of persons are not there any more" in report.notes
        home.collect()
    assert "retention by size" in records(home)[-1].text
    # The newest is being written, and stays whatever its size.
    assert len(expire(home.payloads, home.access, "headrace", NOON.date(), 1)) == 2
    assert home.payloads.segments() == ["20261126-0005"]


def test_segments_end_with_their_size_and_their_day(tmp_path: Path) -> None:
    now = [NOON]
    payloads = Payloads(tmp_path, lambda: now[0], max_bytes=100)
    one = Payload("c", b"s" * 32, "x" * 100)
    assert [payloads.append([one]) for _ in range(2)] == ["20261126-0001", "20261126-0002"]
    now[0] = NOON.replace(day=27)
    assert payloads.append([one]) == "20261127-0001"
    now[0] = NOON  # the clock was set back
    assert payloads.append([one]) == "20261127-0002"


def test_a_reader_is_recorded_before_it_reads(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.loaded(1, 2, 3)
    home.refused("10.0.0.1")
    home.collect()
    reader = Reader(home.log, SIGNER.verifier, home.access, home.payloads)
    with pytest.raises(AccessError, match="operate"):
        reader.entries("eve", ["predict"])
    with pytest.raises(AccessError):
        reader.prove("eve", [], 1)
    events = [e["event"] for e in chain.entries(home.access.path)]
    assert events == ["refused", "refused"]
    found = list(reader.entries("ann", ["operate"], first=1, limit=2))
    assert [(e.index, json.loads(e.line)["version"]) for e in found] == [(1, "2"), (2, "3")]
    [refused] = reader.entries("ann", ["operate"], source="security")
    assert refused.line == ""
    [refused] = reader.entries("ann", ["operate"], source="security", persons=True)
    assert json.loads(refused.line)["client"] == "10.0.0.1"
    assert reader.prove("ann", ["operate"], 3).entry == refused.record.encode()
    assert [e["event"] for e in chain.entries(home.access.path)][2:] == [
        "read",
        "exported",
        "exported",
        "proved",
    ]


def test_a_torn_line_of_a_segment_spoils_no_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.refused("10.0.0.1")
    home.collect()
    [segment] = home.payloads.segments()
    with (tmp_path / "persons" / f"{segment}.jsonl").open("a") as file:
        file.write('{"commitment": "ab')
    home.refused("10.0.0.2")
    home.collect()
    assert len(home.payloads.read(segment)) == 2
    assert home.verify().holds
