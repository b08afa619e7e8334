"""What tells of persons is sealed: the log is as without keys, and what is locked is told apart from what was altered."""

import base64
import json
from pathlib import Path

import pytest

from headrace.audit import Journal, Payloads
from headrace.audit.journals import sealed_lines
from headrace.audit.notes import opened
from headrace.audit.persons.erasure import erase
from headrace.audit.persons.stores import PersonsStore, SecurityStore
from headrace.audit.reader import Reader
from headrace.encryption import DataKeys, KeysAwayError, LockedError, Sealer
from headrace.encryption.kms.file_kms import FileKms, make
from headrace.state import security
from tests.libs.audit.audit_logs import NOON, SIGNER, Home, texts


class SealedHome(Home):
    """A home whose security events and persons' lines are sealed with the keys in `keys`; `open_with` changes them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.keys = folder / "elsewhere" / "keys"
        self.keys.parent.mkdir(exist_ok=True)
        make(self.keys, "test")
        self.folder = folder
        self.now = 0.0
        self.open_with(Sealer(DataKeys(FileKms(self.keys), 300, 1000, lambda: self.now)))

    def open_with(self, sealer: Sealer | None) -> None:
        self.sealer = sealer
        self.payloads = Payloads(self.folder / "persons", lambda: NOON, sealer=sealer)
        lock = self.folder / ".security.jsonl.lock"
        sealed = Journal("security", self.security, personal=True, lock=lock, sealer=sealer)
        self.journals = tuple(sealed if j.name == "security" else j for j in self.journals)

    def again(self) -> None:
        """As another process would have it."""
        self.open_with(Sealer(DataKeys(FileKms(self.keys), 300, 1000, lambda: self.now)))

    def refused(self, *clients: str, tenant: str = "acme") -> None:
        lines = [
            f'{{"time":"now","kind":"denied","client":"{client}","tenant":"{tenant}"}}\n'.encode()
            for client in clients
        ]
        security.append(self.security, sealed_lines(lines, self.sealer))

    def rotate(self) -> None:
        FileKms(self.keys).rotate()
        self.now += 301

    def rewrap(self) -> int:
        assert self.sealer is not None
        stores = (
            PersonsStore(self.payloads),
            SecurityStore(self.security, self.folder / ".security.jsonl.lock"),
        )
        return sum(store.rewrap(path, self.sealer) for store in stores for path in store.files())

    def root(self) -> bytes:
        return opened((self.log / "checkpoint").read_bytes(), SIGNER.verifier)[0].root


@pytest.fixture
def home(tmp_path: Path) -> SealedHome:
    return SealedHome(tmp_path)


def clients(home: Home) -> list[str]:
    held = (home.payloads.read(segment) for segment in home.payloads.segments())
    return [json.loads(p.text)["client"] for found in held for p in found.values() if not p.erased]


def on_disk(home: SealedHome) -> bytes:
    files = [home.security, *(home.folder / "persons").glob("*.jsonl")]
    return b"".join(path.read_bytes() for path in files)


def test_nothing_of_persons_is_on_the_disk_and_the_log_holds(home: SealedHome) -> None:
    home.loaded(1)
    home.refused("10.0.0.1", "10.0.0.2")
    assert home.collect() == 3
    assert b"10.0.0" not in on_disk(home)
    assert b"acme" not in on_disk(home)
    assert clients(home) == ["10.0.0.1", "10.0.0.2"]
    report = home.verify()
    assert report.holds, texts(report)
    assert not report.locked


def test_the_log_is_byte_for_byte_that_of_a_plain_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.audit.collector.secrets.token_bytes", lambda count: b"s" * count)
    (tmp_path / "plain").mkdir()
    (tmp_path / "sealed").mkdir()
    roots = []
    for home in (Home(tmp_path / "plain"), SealedHome(tmp_path / "sealed")):
        home.loaded(1)
        home.refused("10.0.0.1")
        home.collect()
        home.refused("10.0.0.2", "10.0.0.3")
        home.collect()
        roots.append(opened((home.log / "checkpoint").read_bytes(), SIGNER.verifier)[0].root)
    assert roots[0] == roots[1]


def test_rotation_and_rewrapping_change_neither_root_nor_places(home: SealedHome) -> None:
    home.refused("10.0.0.1")
    home.collect()
    root = home.root()
    home.rotate()
    home.refused("10.0.0.2")
    assert home.rewrap() == 2
    assert home.rewrap() == 0
    assert home.root() == root
    # In the process that was reading, and in one that begins anew.
    assert home.collect() == 1
    home.again()
    assert home.collect() == 0
    FileKms(home.keys).retire("test/1")
    home.again()
    home.refused("10.0.0.3")
    assert home.collect() == 1
    assert clients(home) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    report = home.verify()
    assert report.holds, texts(report)
    assert not report.notes[:-1], report.notes


def test_keys_that_are_switched_on_later_seal_what_comes(tmp_path: Path) -> None:
    home = SealedHome(tmp_path)
    sealer = home.sealer
    home.open_with(None)
    home.refused("10.0.0.1")
    home.collect()
    home.open_with(sealer)
    home.refused("10.0.0.2")
    assert home.collect() == 1
    assert home.verify().holds
    assert clients(home) == ["10.0.0.1", "10.0.0.2"]
    [segment] = home.payloads.segments()
    seen = home.payloads.look(segment)
    assert (seen.plain, seen.versions) == (True, {"test/1"})


def test_a_key_that_is_not_here_is_told_as_locked(home: SealedHome, tmp_path: Path) -> None:
    home.refused("10.0.0.1", "10.0.0.2")
    home.collect()
    make(tmp_path / "others", "test-b")
    other = Sealer(DataKeys(FileKms(tmp_path / "others"), 300, 1000, lambda: 0.0))
    for sealer, why in ((other, "only test-b/1 is here"), (None, "no keys are set here")):
        home.open_with(sealer)
        report = home.verify()
        assert report.holds, texts(report)
        [locked] = report.locked
        assert "2 lines of segment" in locked.text
        assert "key test/1" in locked.text
        assert why in locked.text
        reader = Reader(home.log, SIGNER.verifier, home.access, home.payloads)
        entries = list(reader.entries("ann", ["operate"], persons=True, source="security"))
        assert [(e.line, "test/1" in e.locked) for e in entries] == [("", True)] * 2


def test_a_locked_journal_holds_up_no_other_and_goes_on_when_the_key_is_back(home: SealedHome) -> None:
    home.refused("10.0.0.1")
    home.open_with(None)
    home.loaded(1)
    log, collector = home.collector()
    with pytest.raises(LockedError, match="test/1"):
        collector.collect()
    assert log.size == 1
    log.close()
    home.again()
    assert home.collect() == 1
    assert home.verify().holds


def test_one_altered_byte_is_tampering(home: SealedHome) -> None:
    home.refused("10.0.0.1")
    home.collect()
    [segment] = home.payloads.segments()
    path = home.payloads.path(segment)
    sealed = bytearray(base64.b64decode(path.read_bytes()))
    sealed[-1] ^= 1
    path.write_bytes(base64.b64encode(sealed) + b"\n")
    report = home.verify()
    assert "altered or cut off" in texts(report)
    assert not report.locked


def test_a_line_of_another_segment_opens_in_none(home: SealedHome) -> None:
    home.refused("10.0.0.1")
    home.collect()
    [segment] = home.payloads.segments()
    moved = home.payloads.path("20261126-0002")
    home.payloads.path(segment).rename(moved)
    assert home.payloads.opened("20261126-0002").damaged
    assert "is not there" in texts(home.verify())


def test_persons_are_erased_from_sealed_segments(home: SealedHome) -> None:
    home.refused("10.0.0.1", "10.0.0.2")
    home.collect()
    assert erase(home.payloads, home.access, "ann", {"client": "10.0.0.1"}, "asked to") == 1
    assert clients(home) == ["10.0.0.2"]
    assert b"10.0.0" not in on_disk(home)
    home.collect()
    report = home.verify()
    assert report.holds, texts(report)


def test_an_erasure_says_what_it_could_not_open(home: SealedHome) -> None:
    home.refused("10.0.0.1")
    home.collect()
    home.open_with(None)
    with pytest.raises(LockedError, match="0 lines are erased, and 1 segments are locked"):
        erase(home.payloads, home.access, "ann", {"client": "10.0.0.1"}, "asked to")


def test_a_damaged_line_of_a_journal_counts_as_a_line(home: SealedHome) -> None:
    home.refused("10.0.0.1", "10.0.0.2")
    first, second = home.security.read_bytes().splitlines(keepends=True)
    home.security.write_bytes(first + second[:40] + b"\n")
    assert home.collect() == 2
    home.refused("10.0.0.3")
    assert home.collect() == 1
    assert home.verify().holds


def test_a_journal_that_became_shorter_is_a_gap(home: SealedHome) -> None:
    home.refused("10.0.0.1", "10.0.0.2")
    home.collect()
    home.security.write_bytes(home.security.read_bytes().splitlines(keepends=True)[0])
    home.again()
    home.collect()
    assert any("shorter" in note for note in home.verify().notes)


def test_a_full_disk_and_keys_away_append_nothing(home: SealedHome) -> None:
    home.keys.rename(home.keys.with_name("hidden"))
    home.again()
    with pytest.raises(KeysAwayError):
        home.refused("10.0.0.1")
    assert not home.security.exists()
