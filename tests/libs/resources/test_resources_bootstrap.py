"""How a process starts: by the newest of its own disk, control and the artifact store, and never by nothing."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.repository.storage.store import open_store
from headrace.resources import bootstrap
from headrace.resources import follower as follower_module
from headrace.resources.artifacts import ArtifactWriter
from headrace.resources.bootstrap import newest
from headrace.resources.disk import Disk
from tests.libs.resources.control_history import History, SmallControl, key
from tests.libs.resources.following import following, keys, until


def test_a_process_without_anything_is_never_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "store")
    with following(f"unix:{tmp_path}/none.sock", tmp_path / "disk", store) as follower:
        assert follower.view is None
        assert follower.wait("", 0.05) is None
        assert follower.status().position is None
        assert "control can't be reached" in follower.status().problem
    # Without control, too, its start ends.
    monkeypatch.setattr(bootstrap, "_FIRST_OF_STORE_S", 3600.0)
    for alone in (store, None):
        with following("", store=alone) as follower:
            assert follower.view is None


def test_each_is_enough(control: SmallControl, target: str, history: History, tmp_path: Path) -> None:
    none = f"unix:{tmp_path}/none.sock"
    with following(target, tmp_path / "disk") as follower:
        until(lambda: follower.view)
        until(lambda: (tmp_path / "disk" / "0" / "manifest").exists())
    store = open_store(tmp_path / "store")
    ArtifactWriter(store, time.monotonic).write(history.part())
    for root, place in ((tmp_path / "disk", None), (tmp_path / "other", store), (None, store)):
        with following(none, root, place) as follower:
            assert follower.view.snapshot == history.snapshot
            assert follower.status().position == history.position
            assert 0 <= follower.status().age_s < 300
    (tmp_path / "disk" / "0" / "manifest").write_bytes(b"{")
    with following(none, tmp_path / "disk") as follower:
        assert follower.view is None
        assert "JSON" in follower.status().problem


def test_the_newest_is_taken_and_only_what_descends_from_the_own(history: History) -> None:
    old = history.part()
    history.change(key("c"))
    new = history.part()
    other = history.restored(2)
    other.change()
    other.change()
    assert newest(None, [old, new]) is new
    assert newest(None, []) is None
    assert newest(old, [new]) is new
    assert newest(new, [old]) is new
    assert newest(new, [other.part()]) is new
    other.begin_epoch()
    assert newest(new, [other.part()]).position == other.position


def test_what_another_process_of_the_machine_stored_is_used(history: History, tmp_path: Path) -> None:
    old = history.part()
    history.change(key("c"))
    neighbour = Disk(tmp_path / "0")
    neighbour.write(history.part())
    own = Disk(tmp_path / "1")
    own.write(old)
    own.close()
    with following(f"unix:{tmp_path}/none.sock", tmp_path) as follower:
        assert follower.status().position == history.position
    neighbour.close()


def test_a_store_alone_is_followed(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "STORE_EVERY_S", 0.05)
    store = open_store(tmp_path)
    writer = ArtifactWriter(store, time.monotonic)
    writer.write(history.part())
    with following("", store=store) as follower:
        assert follower.view.snapshot == history.snapshot
        history.change(key("a", "2"))
        writer.write(history.part())
        until(lambda: keys(follower)["a"] == "2")
        assert follower.status().problem == ""
        other = history.restored(2)
        other.change(key("a", "old"))
        writer.write(other.part())
        (tmp_path / "resources" / "ingress" / "manifest").write_bytes(b"{}")
        until(lambda: follower.status().problem)
        assert keys(follower)["a"] == "2"


def test_only_the_client_of_control_needs_grpc_and_only_a_key_needs_cryptography() -> None:
    script = (
        "import sys, headrace.resources.bootstrap; print({'grpc', 'cryptography', 'fsspec'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
