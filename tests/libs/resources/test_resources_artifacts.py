"""Manifest and resources in the artifact store: a folder, and a URL by fsspec."""

from pathlib import Path

import pytest

from headrace.repository.storage.store import Store, open_store
from headrace.resources.artifacts import ArtifactWriter, read_artifacts
from headrace.resources.manifest import PartError
from tests.libs.resources.control_history import VERIFIER, History, key


@pytest.fixture(params=["folder", "url"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path if request.param == "folder" else f"file://{tmp_path}")


def objects(store: Store) -> set[str]:
    return set(store.files("resources/objects"))


def hashes(history: History) -> set[str]:
    return {r.sha256.hex() for r in history.snapshot.resources.values()}


def test_what_control_writes_a_process_reads(store: Store) -> None:
    history = History()
    history.change(*(key(f"k{i}", str(i)) for i in range(40)))
    writer = ArtifactWriter(store, lambda: 0.0)
    writer.write(history.part())
    writer.write(history.part("router"))
    assert read_artifacts(store, VERIFIER, "ingress").snapshot == history.snapshot
    assert read_artifacts(store, VERIFIER, "router").position == history.position
    with pytest.raises(FileNotFoundError):
        read_artifacts(store, VERIFIER, "executor")


def test_contents_come_before_their_manifest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    history, paths = History(), []
    history.change(key("a"), key("b", "2"))
    replace = store.replace

    def replaced(path: str, content: bytes) -> None:
        paths.append(path)
        replace(path, content)

    monkeypatch.setattr(store, "replace", replaced)
    writer = ArtifactWriter(store, lambda: 0.0)
    writer.write(history.part())
    assert [p.partition("/")[2].partition("/")[0] for p in paths] == ["objects", "objects", "ingress"]
    paths.clear()
    history.change(key("a", "new"))
    writer.write(history.part())
    assert paths == [f"resources/objects/{key('a', 'new').sha256.hex()}", "resources/ingress/manifest"]


def test_a_damaged_content_is_refused(store: Store) -> None:
    history = History()
    history.change(key("a"))
    ArtifactWriter(store, lambda: 0.0).write(history.part())
    store.replace(f"resources/objects/{key('a').sha256.hex()}", b"other")
    with pytest.raises(PartError, match="damaged"):
        read_artifacts(store, VERIFIER, "ingress")


def test_what_no_service_names_is_deleted_later(store: Store) -> None:
    now, history = 0.0, History()
    writer = ArtifactWriter(store, lambda: now, grace_s=100)
    history.change(key("a", "1"), key("b", "b"))
    writer.write(history.part("router"))
    before = hashes(history)
    history.change(key("a", "2"))
    writer.write(history.part())
    writer.sweep(["ingress", "router"])
    assert objects(store) == before | hashes(history)
    # A control that starts again does not know what the other service needs until it has written it.
    again = ArtifactWriter(store, lambda: now, grace_s=100)
    again.write(history.part())
    again.sweep(["ingress", "router"])
    now = 1000.0
    again.sweep(["ingress", "router"])
    assert objects(store) == before | hashes(history)
    writer.write(history.part("router"))
    writer.sweep(["ingress", "router"])
    now = 1099.0
    writer.sweep(["ingress", "router"])
    assert objects(store) == before | hashes(history)
    now = 1100.0
    writer.sweep(["ingress", "router"])
    assert objects(store) == hashes(history)
    assert read_artifacts(store, VERIFIER, "router").snapshot == history.snapshot


def test_what_is_named_again_meanwhile_is_not_deleted(store: Store) -> None:
    now, history = 0.0, History()
    writer = ArtifactWriter(store, lambda: now, grace_s=100)
    history.change(key("a", "1"))
    writer.write(history.part())
    history.change(key("a", "2"))
    writer.write(history.part())
    writer.sweep(["ingress"])
    history.change(key("a", "1"))
    writer.write(history.part())
    now = 200.0
    writer.sweep(["ingress"])
    assert objects(store) >= hashes(history)
    history.change(key("a", "2"))
    writer.write(history.part())
    writer.sweep(["ingress"])
    assert key("a", "1").sha256.hex() in objects(store), "the time counts from when it was last named"
