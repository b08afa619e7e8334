"""What a process stores: whatever is cut off, torn or altered, it is read as it was or as absent."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.resources.bootstrap import open_disk
from headrace.resources.disk import COMPILED_SLOTS, Disk, DiskBusyError, read_folder
from headrace.resources.manifest import PartError, SignatureError, Signer, VerifiedPart
from headrace.resources.trials import CRASHED, Trials
from headrace.state import atomic
from tests.libs.resources.control_history import OTHER_PRIVATE, VERIFIER, History, key


def histories() -> History:
    history = History()
    history.change(key("a", "a1"), key("b", "b1"), key("c", "c1"))
    history.change(key("a", "a2"), key("d", "d1"), deleted=(("key", "b"),))
    return history


def read(folder: Path) -> tuple[VerifiedPart | None, list[str]]:
    disk = Disk(folder)
    try:
        return disk.read(VERIFIER, "ingress"), disk.problems
    finally:
        disk.close()


def write(folder: Path, *parts: VerifiedPart) -> None:
    disk = Disk(folder)
    for part in parts:
        disk.write(part)
    disk.close()


def contents(folder: Path) -> set[str]:
    return {p.name for p in (folder / "objects").iterdir()}


def test_what_is_written_is_read_by_the_next_process(tmp_path: Path) -> None:
    history = histories()
    write(tmp_path, history.restored(2).part(), history.part())
    part, problems = read(tmp_path)
    assert part.snapshot == history.snapshot
    assert problems == []
    assert contents(tmp_path) == {r.sha256.hex() for r in history.snapshot.resources.values()}
    modes = {p.stat().st_mode & 0o077 for p in tmp_path.rglob("*")}
    assert modes == {0}


def test_an_empty_folder_is_no_problem(tmp_path: Path) -> None:
    assert read(tmp_path / "new" / "one") == (None, [])


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


def test_after_each_prefix_of_the_writes_the_old_or_the_new_part_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        found, problems = read(tmp_path)
        assert found is None
        assert len(problems) == 1
    (tmp_path / "manifest").write_bytes(manifest)
    for path in (tmp_path / "objects").iterdir():
        content = path.read_bytes()
        for damage in (content[:-1], content + b"x", b"y" + content[1:], None):
            path.write_bytes(damage) if damage is not None else path.unlink()
            found, problems = read(tmp_path)
            assert found is None
            assert len(problems) == 1
            # What comes from control then mends it.
            write(tmp_path, part)
            assert read(tmp_path)[0].snapshot == part.snapshot


def test_a_foreign_folder_is_as_absent(tmp_path: Path) -> None:
    write(tmp_path / "key", histories().part(signer=Signer(OTHER_PRIVATE)))
    write(tmp_path / "service", histories().part("router"))
    for name, problem in (("key", "no trusted key"), ("service", "router")):
        found, problems = read(tmp_path / name)
        assert found is None
        assert problem in problems[0]
    with pytest.raises(SignatureError):
        read_folder(tmp_path / "key", VERIFIER, "ingress")


def test_entries_of_another_part_do_not_fit_the_manifest(tmp_path: Path) -> None:
    history = histories()
    write(tmp_path, history.part())
    values = json.loads((tmp_path / "manifest").read_bytes())
    values["entries"][0][1] = "other"
    (tmp_path / "manifest").write_text(json.dumps(values))
    with pytest.raises(PartError):
        read_folder(tmp_path, VERIFIER, "ingress")


def test_a_pipe_in_the_folder_blocks_nobody(tmp_path: Path) -> None:
    Disk(tmp_path).close()
    os.mkfifo(tmp_path / "manifest")
    found, problems = read(tmp_path)
    assert found is None
    assert "plain file" in problems[0]


def test_a_full_disk_leaves_what_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = histories()
    write(tmp_path, history.restored(2).part())
    disk = Disk(tmp_path)

    def full(path: Path, content: bytes, *, mode: int = 0o644) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(atomic, "write", full)
    with pytest.raises(OSError, match="No space"):
        disk.write(history.part())
    disk.close()
    assert read(tmp_path)[0].position.number == 2


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    script = (
        "import sys; from pathlib import Path; from headrace.resources.disk import Disk, DiskBusyError\n"
        "try: Disk(Path(sys.argv[1]))\nexcept DiskBusyError as error: print(error)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert "another process" in found.stdout
    disk.close()
    found = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert found.stdout == ""


def test_each_process_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = open_disk(tmp_path), open_disk(tmp_path)
    assert (first.folder, second.folder) == (tmp_path / "0", tmp_path / "1")
    with pytest.raises(DiskBusyError):
        Disk(first.folder)
    first.close()
    again = open_disk(tmp_path)
    assert again.folder == tmp_path / "0"
    again.close()
    second.close()


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


def test_a_process_starts_also_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)
    disk.write_trials(Trials({"1" * 64}, proven={("key", "a"): ("2" * 64, ())}))
    disk.close()

    def full(path: Path, content: bytes, *, mode: int = 0o644) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(atomic, "write", full)
    disk = Disk(tmp_path)
    assert disk.read_trials().quarantined == {"1" * 64: CRASHED}
    assert "No space" in disk.problems[0]
    disk.close()


def test_the_trials_of_an_ended_process_count_once(tmp_path: Path) -> None:
    one, two = "1" * 64, "2" * 64
    disk = Disk(tmp_path)
    assert disk.read_trials() == Trials()
    disk.write_trials(Trials({one, two}))
    disk.write_compiled([one])
    disk.close()
    disk = Disk(tmp_path)
    assert disk.read_trials().quarantined == {one: CRASHED}
    assert (tmp_path / "compiled").read_bytes() == bytes(32 * COMPILED_SLOTS)
    disk.close()
    disk = Disk(tmp_path)
    assert disk.read_trials() == Trials(quarantined={one: CRASHED})
    disk.close()
    (tmp_path / "trials.json").write_bytes(b"torn")
    disk = Disk(tmp_path)
    assert disk.read_trials() == Trials()
    assert "can't be read" in disk.problems[0]
    disk.close()
