"""A backup has all of a home; what was altered, cut off or made by others is refused, and leaves nothing behind."""

import io
import json
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace.cli.backup.archive import FORMAT, LIST, BackupError, restore, write
from headrace.cli.installation import layout
from headrace.cli.installation.layout import Layout

MADE = "2026-11-26T12:00:00+00:00"


def nobody(_done: int, _all: int) -> None:
    return


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Layout]:
    """A home with a database that a process has open and has written to."""
    found = layout.of(tmp_path / "home")
    found.home.mkdir(mode=0o700)
    (found.home / "models" / "light" / "1").mkdir(parents=True)
    (found.home / "models" / "light" / "1" / "model.onnx").write_bytes(b"m" * 3_000_000)
    found.events_salt.write_text("secret")
    found.events_salt.chmod(0o600)
    found.model_log.parent.mkdir()
    found.model_log.write_text('{"n": 1}\n{"n": 2}\n{"n": ')
    found.run.mkdir()
    (found.run / "ports.json").write_text("{}")
    found.facts.parent.mkdir()
    with closing(sqlite3.connect(found.facts)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        yield found


def saved(home: Layout) -> Path:
    target = home.home.parent / "b.tar"
    write(home, target, made=MADE, version="1.2.3", told=nobody)
    return target


def test_what_is_restored_is_what_was_there(home: Layout, tmp_path: Path) -> None:
    target = saved(home)
    assert target.stat().st_mode & 0o777 == 0o600
    seen: list[int] = []
    manifest = restore(target, tmp_path / "new", lambda done, _: seen.append(done))
    new = layout.of(tmp_path / "new")
    assert (manifest.made, manifest.version, seen) == (MADE, "1.2.3", [1, 2, 3, 4])
    assert new.home.stat().st_mode & 0o777 == 0o700
    assert new.events_salt.read_text() == "secret"
    assert new.events_salt.stat().st_mode & 0o777 == 0o600
    assert (new.models / "light/1/model.onnx").read_bytes() == b"m" * 3_000_000
    assert not new.run.exists()
    # A line that was being written is not half there, and what the database had in its side file is not lost.
    assert new.model_log.read_text() == '{"n": 1}\n{"n": 2}\n'
    with closing(sqlite3.connect(new.facts)) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_links_are_not_followed(home: Layout, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("another's")
    (home.home / "models" / "link").symlink_to(tmp_path / "outside")
    (home.home / "data").symlink_to(tmp_path)
    manifest = restore(saved(home), tmp_path / "new", nobody)
    assert sorted(manifest.files) == [
        "audit/models.jsonl",
        "events.salt",
        "models/light/1/model.onnx",
        "monitoring/facts.sqlite",
    ]


def test_nothing_is_written_over(home: Layout, tmp_path: Path) -> None:
    target = saved(home)
    with pytest.raises(BackupError, match=r"b\.tar exists"):
        saved(home)
    with pytest.raises(BackupError, match="not empty"):
        restore(target, home.home, nobody)
    (tmp_path / "empty").mkdir()
    assert restore(target, tmp_path / "empty", nobody).files
    with pytest.raises(BackupError, match="there is no folder"):
        restore(target, tmp_path / "no" / "where", nobody)


def test_a_database_that_is_broken_is_named_and_leaves_no_file(home: Layout) -> None:
    home.idempotency.parent.mkdir()
    home.idempotency.write_bytes(b"SQLite format 3\0" + b"nonsense" * 100)
    with pytest.raises(BackupError, match=r"keys\.sqlite: SQLite can't copy it"):
        saved(home)
    assert sorted(p.name for p in home.home.parent.iterdir()) == ["home"]


def rewritten(source: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> Path:
    """The same tar, changed."""
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(source) as tar:
        for member in tar:
            file = tar.extractfile(member)
            members.append((member, file.read() if file else b""))
    change(members)
    target = source.with_name("changed.tar")
    with tarfile.open(target, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target


def _add(name: str, place: int = 0, kind: bytes = tarfile.REGTYPE) -> Callable[..., None]:
    def add(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "events.salt"
        members.insert(place, (member, b""))

    return add


def _listed(**changes: object) -> Callable[..., None]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        told = json.loads(members[-1][1]) | changes
        members[-1] = (members[-1][0], json.dumps(told).encode())

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.insert(0, (m[0][0], b"x" + m.pop(0)[1][1:])), "is not what was backed up"),
        (lambda m: m.pop(0), "lacks"),
        (lambda m: m.insert(0, m[0]), "was altered"),
        (_add("models/new"), "is not what was backed up"),
        (_add("../outside"), "is not of a backup"),
        (_add("/etc/outside"), "is not of a backup"),
        (_add("models/../../outside"), "is not of a backup"),
        (_add("run/elsewhere"), "is not of a backup"),
        (_add("models/link", kind=tarfile.SYMTYPE), "is not of a backup"),
        (_add("models/link", kind=tarfile.LNKTYPE), "is not of a backup"),
        (_add("models/late", place=99), "more behind its list"),
        (lambda m: m.pop(), "cut off"),
        (_listed(format=FORMAT + 1), "restore it with headrace 1.2.3"),
        (_listed(files=7), "can't be read"),
        (_listed(files={"events.salt": 3}), "can't be read"),
    ],
)
def test_what_was_altered_is_refused_and_leaves_nothing(
    home: Layout, tmp_path: Path, change: Callable[..., None], said: str
) -> None:
    changed = rewritten(saved(home), change)
    with pytest.raises(BackupError, match=said):
        restore(changed, tmp_path / "new", nobody)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "changed.tar", "home"]


@pytest.mark.parametrize("keep", [0, 10, 700, 5_000, 1_500_000])
def test_a_file_that_is_cut_off_is_refused(home: Layout, tmp_path: Path, keep: int) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(saved(home).read_bytes()[:keep])
    with pytest.raises(BackupError, match="cut off"):
        restore(cut, tmp_path / "new", nobody)
    assert not (tmp_path / "new").exists()


def test_no_backup_at_all(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n" * 1000)
    with pytest.raises(BackupError, match="no backup"):
        restore(tmp_path / "text", tmp_path / "new", nobody)
    with pytest.raises(BackupError, match="No such file"):
        restore(tmp_path / "absent", tmp_path / "new", nobody)
    assert LIST == "BACKUP.json"
