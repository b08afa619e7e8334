"""Where models lie: a folder with hostile entries in it, and an object store."""

import errno
import os
import uuid
from pathlib import Path

import fsspec
import pytest

from headrace.repository import Repository, RepositoryError, Trust, changes
from headrace.repository.signing import key_pair
from headrace.repository.storage.store import open_store
from tests.libs.repository.signed_models import CONTENT, put


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A folder, and an object store of fsspec's own."""
    return tmp_path / "models" if request.param == "folder" else f"memory://{uuid.uuid4().hex}/models"


def test_a_model_lives_in_any_store(root: Path | str, tmp_path: Path) -> None:
    private, public = tmp_path / "k", tmp_path / "k.pub"
    key_pair.generate(private, public)
    for version in ("9", "10"):
        put(root, version=version, key=private)
    repository = Repository(root, trust=Trust((public,)))

    assert repository.models() == ["light"]
    assert repository.versions("light") == ["9", "10"]
    assert repository.read("light", "10").content == CONTENT
    assert repository.labels("light") == {}
    with pytest.raises(RepositoryError, match="is published already; choose a new version"):
        put(root, version="9", key=private)
    assert not isinstance(root, Path) or {p.name for p in (root / "light").iterdir()} == {"9", "10"}
    with pytest.raises(RepositoryError, match=r"there is no such version or label \(there are: 9, 10\)"):
        repository.resolve("light", "champion")
    changes.remove(None, root, "light", "9", "somebody")
    assert repository.versions("light") == ["10"]
    with pytest.raises(RepositoryError, match=r"can't read metadata.json .*there are: 10"):
        repository.read("light", "9")
    for model in ("nobody", "light"):
        with pytest.raises(RepositoryError, match="there is no such version"):
            changes.remove(None, root, model, "9", "somebody")


def test_a_version_that_half_arrived_is_not_there(tmp_path: Path) -> None:
    """An object store shows files one by one; metadata.json comes last."""
    url = f"memory://{uuid.uuid4().hex}/models"
    put(url)
    files, base = fsspec.core.url_to_fs(url)
    files.pipe_file(f"{base}/light/2/model.onnx", CONTENT)
    assert Repository(url).versions("light") == ["1"]


def test_an_unknown_store_says_what_is_missing() -> None:
    with pytest.raises(RepositoryError, match=r"can't open nonsense://x .*can't be reached"):
        Repository("nonsense://x").models()


def test_a_store_refuses_what_is_too_long(root: Path | str) -> None:
    put(root)
    store = open_store(root)
    with pytest.raises(OSError, match="more than 4") as caught:
        store.read("light/1/model.onnx", 4)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("kind", ["absolute link", "relative link", "linked folder", "pipe", "folder"])
def test_what_leads_out_of_the_repository_is_refused(tmp_path: Path, kind: str) -> None:
    root, outside = tmp_path / "models", tmp_path / "outside"
    put(outside, version="1")
    put(root, version="2")
    (root / "light" / "1").mkdir()
    place = root / "light" / "1" / "metadata.json"
    match kind:
        case "absolute link":
            place.symlink_to(outside / "light/1/metadata.json")
        case "relative link":
            place.symlink_to("../../../outside/light/1/metadata.json")
        case "linked folder":
            (root / "light" / "1").rmdir()
            (root / "light" / "1").symlink_to(outside / "light" / "1")
        case "pipe":
            os.mkfifo(place)
        case _:
            place.mkdir()

    says = "links out of the repository" if "link" in kind else "no plain file|can't read"
    with pytest.raises(RepositoryError, match=says):
        Repository(root).read("light", "1")


def test_links_inside_are_followed_as_mounted_volumes_need(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "light" / "1").rename(tmp_path / "light" / "..data")
    (tmp_path / "light" / "1").symlink_to("..data")
    assert Repository(tmp_path).read("light", "1").content == CONTENT


@pytest.mark.parametrize(("name", "version"), [("LIGHT", "2"), ("Light", "1"), ("light", "1A")])
def test_names_that_differ_in_case_alone_are_refused(tmp_path: Path, name: str, version: str) -> None:
    """One folder on a disk that does not tell them apart."""
    put(tmp_path)
    put(tmp_path, version="1a")
    with pytest.raises(RepositoryError, match="differs in upper and lower case alone"):
        put(tmp_path, name, version)


@pytest.mark.parametrize("name", ["model.onnx", "metadata.json", "model.sig", "a/b", ".."])
def test_a_further_file_can_not_take_a_name_that_is_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(RepositoryError, match=r"name that is taken|is no file name"):
        put(tmp_path, files={name: b"x"})
    assert not (tmp_path / "light").exists()


@pytest.mark.parametrize("url", ["file://{}/models", "memory://{}/models"])
def test_of_two_writers_that_found_no_version_the_first_one_has_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    root = url.format(tmp_path)
    put(root)
    store = open_store(root)
    files, looked = store._files, [False]  # type: ignore[attr-defined]  # as if it had looked before the other wrote
    there = files.exists
    monkeypatch.setattr(files, "exists", lambda path: looked.pop() if looked else there(path))
    with pytest.raises(FileExistsError):
        store.create("light/1", {"model.onnx": b"another", "metadata.json": b"{}"})
    assert Repository(root).read("light", "1").content == CONTENT
