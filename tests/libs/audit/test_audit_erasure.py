"""What the security events hold of somebody is erased, and the batches of their lines still hold."""

import fcntl
import json
from pathlib import Path

import pytest

from headrace.audit.access import AccessError
from headrace.audit.erasure import erase
from headrace.audit.journals import Journal, batch_digest, line_digest
from headrace.state import atomic, security
from headrace.state.json_lines import append_rotated, entries
from tests.libs.audit.audit_home import Home

WHO, WHY = "ann", "they asked"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    # No database: nothing follows the journals here.
    home = Home(tmp_path, None)  # type: ignore[arg-type]  # unused
    home.refused("10.0.0.1", "10.0.0.2")
    home.refused("10.0.0.1", "10.0.0.3", rotated=1)
    return home


def journal(home: Home) -> Journal:
    return Journal("security", home.security)


def remains(home: Home) -> str:
    return "".join(path.read_text() for path in journal(home).paths() if path.exists())


def batches(home: Home) -> list[tuple[str, str]]:
    """The hash of all lines of each file, by what identifies it."""
    return [
        (identity, batch_digest([line_digest(line) for line in path.read_bytes().splitlines()]))
        for path, identity in journal(home).files()
    ]


def test_lines_of_a_client_are_erased_in_all_files_and_recorded(home: Home) -> None:
    before, hashes = remains(home), batches(home)
    assert erase(journal(home), home.access, WHO, {"client": "10.0.0.1"}, WHY) == 2
    assert before.count("10.0.0.1") == 2
    assert "10.0.0.1" not in remains(home)
    assert remains(home).count("10.0.0.") == 2
    assert batches(home) == hashes
    said = [entry for entry in entries(home.access.path) if entry["event"] == "erased"]
    gone = [line_digest(line).hex() for line in before.encode().splitlines() if b"10.0.0.1" in line]
    assert {(entry["journal"], entry["who"], entry["reason"]) for entry in said} == {("security", WHO, WHY)}
    assert sorted(line for entry in said for line in entry["lines"]) == sorted(gone)
    # Nothing more, and nothing twice.
    assert erase(journal(home), home.access, WHO, {"client": "10.0.0.1"}, WHY) == 0


def test_all_keys_must_fit_and_one_must_be_named(home: Home) -> None:
    assert erase(journal(home), home.access, WHO, {"client": "10.0.0.2", "tenant": "other"}, WHY) == 0
    assert erase(journal(home), home.access, WHO, {"client": "10.0.0.2", "tenant": ""}, WHY) == 1
    with pytest.raises(ValueError, match="a tenant or a client"):
        erase(journal(home), home.access, WHO, {"client": "", "tenant": ""}, WHY)


def test_a_summary_goes_with_each_client_that_it_names(home: Home) -> None:
    events = security.SecurityEvents(lambda: 1.0)
    for _ in range(60):
        events.add("denied", "10.9.9.9", {})
    append_rotated(home.security, b"".join(events.take(closing=True)))
    assert '"summary"' in remains(home)
    erase(journal(home), home.access, WHO, {"client": "10.9.9.9"}, WHY)
    assert "10.9.9.9" not in remains(home)


def test_many_lines_are_recorded_in_lines_that_are_no_larger_than_they_may_be(home: Home) -> None:
    with home.security.open("ab") as file:
        for number in range(1200):
            file.write(json.dumps({"client": "10.7.7.7", "salt": str(number)}).encode() + b"\n")
    assert erase(journal(home), home.access, WHO, {"client": "10.7.7.7"}, WHY) == 1200
    said = [len(entry["lines"]) for entry in entries(home.access.path) if entry["event"] == "erased"]
    assert said == [500, 500, 200]
    assert max(map(len, home.access.path.read_bytes().splitlines())) < 64 << 10


def test_what_can_not_be_recorded_is_not_erased(home: Home) -> None:
    home.access.path.mkdir()
    before = remains(home)
    with pytest.raises(AccessError, match="not done"):
        erase(journal(home), home.access, WHO, {"client": "10.0.0.1"}, WHY)
    assert remains(home) == before


def test_the_hash_of_a_line_does_not_say_what_it_was(home: Home) -> None:
    home.refused("10.0.0.8", "10.0.0.8")
    events = [json.loads(line) for line in home.security.read_text().splitlines()][-2:]
    salts = {event.pop("salt") for event in events}
    assert events[0] == events[1]
    assert len(salts) == 2
    assert {len(bytes.fromhex(salt)) for salt in salts} == {16}


def test_nobody_writes_while_lines_are_replaced(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = []

    def write(path: Path, content: bytes, *, mode: int) -> None:
        with (
            home.security.with_name(".security.jsonl.lock").open("rb") as lock,
            pytest.raises(BlockingIOError),
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        replaced.append(path.name)
        path.write_bytes(content)

    monkeypatch.setattr(atomic, "write", write)
    erase(journal(home), home.access, WHO, {"client": "10.0.0.1"}, WHY)
    assert replaced == ["security.jsonl.2", "security.jsonl.1"]
