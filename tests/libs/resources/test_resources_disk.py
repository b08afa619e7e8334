"""What a process stores: whatever is cut off, torn or altered, it is read as it was or as absent."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from headrace.resources.bootstrap import open_disk
from headrace.resources.disk import COMPILED_SLOTS, Disk, DiskBusyError, read_folder
from headrace.resources.manifest import SignatureError, Signer, VerifiedPart
from headrace.resources.trials import CRASHED, Trials
from headrace.state import atomic
from tests.libs.resources.control_history import OTHER_PRIVATE, VERIFIER, History, key


def histories() -> History:
    history = History()
    history.change(key("a", "a1"), key("b", "b1"), key("c", "c1"))
    history.change(key("a", "a2"), key("d", "d1"), deleted=(("key", "b"),))
    return history


def read(folder: Path) -> tuple[VerifiedPart | None, list[str]]:
    with closing(Disk(folder)) as disk:
        return disk.read(VERIFIER, "ingress"), disk.problems


def absent(folder: Path) -> str:
    """Why nothing is read."""
    found, [problem] = read(folder)
    assert found is None
    return problem


def write(folder: Path, *parts: VerifiedPart) -> None:
    with closing(Disk(folder)) as disk:
        for part in parts:
            disk.write(part)


def contents(folder: Path) -> set[str]:
    return {p.name for p in (folder / "objects").iterdir()}


def test_what_is_written_is_read_by_the_next_process(tmp_path: Path) -> None:
    assert read(tmp_path) == (None, [])
    history = histories()
    write(tmp_path, history.restored(2).part(), history.part())
    part, problems = read(tmp_path)
    assert part.snapshot == history.snapshot
    assert problems == []
    assert contents(tmp_path) == {r.sha256.hex() for r in history.snapshot.resources.values()}
    modes = {p.stat().st_mode & 0o077 for p in tmp_path.rglob("*")}
    assert modes == {0}


def recorded(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[], None], root: Path
) -> list[tuple[str, Path, bytes]]:
    """The renames and removals below `root` that an action makes, in order, with the synced contents."""
    done: list[tuple[str, Path, bytes]] = []
    replace, unlink, sync = Path.replace, Path.unlink, os.fsync
    synced: set[int] = set()

    def replaced(self: Path, target: Path) -> Path:
        assert self.stat().st_ino in synced, "it is renamed before its content is on the disk"
        done.append(("write", target.relative_to(root), self.read_bytes()))
        return replace(self, target)

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        if not self.name.startswith("."):
            done.append(("remove", self.relative_to(root), b""))
        unlink(self, missing_ok=missing_ok)

    def fsynced(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        path = Path(f"/proc/self/fd/{descriptor}")
        if path.is_dir():
            done.append(("sync", path.readlink().relative_to(root), b""))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replaced)
        patch.setattr(Path, "unlink", unlinked)
        patch.setattr(os, "fsync", fsynced)
        action()
    return done


def test_each_prefix_of_the_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, before, live = histories(), tmp_path / "before", tmp_path / "live"
    old, new = history.restored(2).part(), history.part()
    write(before, old)
    shutil.copytree(before, live)
    disk = Disk(live)
    disk.read(VERIFIER, "ingress")
    operations = recorded(monkeypatch, lambda: disk.write(new), live)
    disk.close()
    assert [kind for kind, *_ in operations].count("write") == 3
    found = []
    for cut in range(len(operations) + 1):
        # What no sync of its folder followed may be lost, each for itself.
        loose = []
        for i, (kind, path, _) in enumerate(operations[:cut]):
            synced = any(k == "sync" and p == path.parent for k, p, _ in operations[i:cut])
            loose += [i] if kind != "sync" and not synced else []
        for lost in {(), *((i,) for i in loose), tuple(loose)}:
            folder = tmp_path / f"cut-{cut}-{'-'.join(map(str, lost))}"
            shutil.copytree(before, folder)
            for i, (kind, path, content) in enumerate(operations[:cut]):
                if i not in lost and kind == "write":
                    (folder / path).write_bytes(content)
                elif i not in lost and kind == "remove":
                    (folder / path).unlink()
            part, problems = read(folder)
            assert problems == []
            assert part.snapshot in (old.snapshot, new.snapshot)
            found.append(part.position.number)
            # And the process that starts so writes the new one.
            write(folder, new)
            assert read(folder)[0].snapshot == new.snapshot
    assert set(found) == {2, 3}


def test_a_draft_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    write(tmp_path, histories().part())
    (tmp_path / ".manifest.1234").write_bytes(b"half")
    (tmp_path / "objects" / ".abcd").write_bytes(b"half")
    assert read(tmp_path)[0] is not None
    assert not list(tmp_path.rglob(".*"))


def test_torn_and_altered_files_are_as_absent_and_said(tmp_path: Path) -> None:
    part = histories().part()
    write(tmp_path, part)
    manifest = (tmp_path / "manifest").read_bytes()
    for end in range(0, len(manifest), 97):
        (tmp_path / "manifest").write_bytes(manifest[:end])
        assert absent(tmp_path)
    (tmp_path / "manifest").write_bytes(manifest)
    for path in (tmp_path / "objects").iterdir():
        content = path.read_bytes()
        for damage in (content[:-1], content + b"x", b"y" + content[1:], None):
            path.write_bytes(damage) if damage is not None else path.unlink()
            assert absent(tmp_path)
            # What comes from control then mends it.
            write(tmp_path, part)
            assert read(tmp_path)[0].snapshot == part.snapshot


def test_a_foreign_folder_is_as_absent(tmp_path: Path) -> None:
    write(tmp_path / "key", histories().part(signer=Signer(OTHER_PRIVATE)))
    write(tmp_path / "service", histories().part("router"))
    for name, problem in (("key", "no trusted key"), ("service", "router")):
        assert problem in absent(tmp_path / name)
    with pytest.raises(SignatureError):
        read_folder(tmp_path / "key", VERIFIER, "ingress")


def test_a_pipe_in_the_folder_blocks_nobody(tmp_path: Path) -> None:
    Disk(tmp_path).close()
    os.mkfifo(tmp_path / "manifest")
    assert "plain file" in absent(tmp_path)


def test_contents_of_what_proved_itself_stay(tmp_path: Path) -> None:
    history, proven = histories(), key("a", "a1")
    disk = Disk(tmp_path)
    disk.write(history.restored(2).part())
    disk.write(history.part(), {proven.sha256.hex()})
    assert disk.resource("key", "a", proven.sha256.hex(), 1) == proven
    (tmp_path / "objects" / proven.sha256.hex()).write_bytes(b"damaged")
    assert disk.resource("key", "a", proven.sha256.hex(), 1) is None
    disk.write(history.part())
    assert not (tmp_path / "objects" / proven.sha256.hex()).exists()
    disk.close()


def test_the_trials_of_an_ended_process_count_once(tmp_path: Path) -> None:
    one, two = "1" * 64, "2" * 64
    with closing(Disk(tmp_path)) as disk:
        assert disk.read_trials() == Trials()
        disk.write_trials(Trials({one, two}))
        disk.write_compiled([one])
    for _ in range(2):
        with closing(Disk(tmp_path)) as disk:
            assert disk.read_trials() == Trials(quarantined={one: CRASHED})
            assert (tmp_path / "compiled").read_bytes() == bytes(32 * COMPILED_SLOTS)
    (tmp_path / "trials.json").write_bytes(b"torn")
    with closing(Disk(tmp_path)) as disk:
        assert disk.read_trials() == Trials()
        assert "can't be read" in disk.problems[0]


def test_a_full_disk_leaves_what_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = histories()
    write(tmp_path, history.restored(2).part())
    with closing(Disk(tmp_path)) as disk:
        disk.write_trials(Trials({"1" * 64}, proven={("key", "a"): ("2" * 64, ())}))
        full = OSError(28, "No space left on device")
        monkeypatch.setattr(atomic, "write", Mock(side_effect=full))
        with pytest.raises(OSError, match="No space"):
            disk.write(history.part())
    with closing(Disk(tmp_path)) as disk:
        assert disk.read(VERIFIER, "ingress").position.number == 2
        assert disk.read_trials().quarantined == {"1" * 64: CRASHED}
        assert "No space" in disk.problems[0]


def test_each_process_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from headrace.resources.bootstrap import open_disk\n"
        "print(open_disk(Path(sys.argv[1])).folder.name)"
    )

    def another() -> str:
        command = [sys.executable, "-c", script, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with closing(open_disk(tmp_path)) as disk:
        assert (disk.folder, another()) == (tmp_path / "0", "1")
        with pytest.raises(DiskBusyError, match="another process"):
            Disk(disk.folder)
    assert another() == "0"
