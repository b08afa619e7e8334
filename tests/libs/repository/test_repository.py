"""The model repository: what is read is what was published, and nothing else is, from a folder or an object store."""

import errno
import json
import os
import uuid
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.repository import Artifact, Repository, RepositoryError, Trust, changes, publish, version_key
from headrace.repository.signing import key_pair
from headrace.repository.storage.store import open_store
from tests.libs.repository.signed_models import CONTENT, X, Y, put


def rewrite(root: Path, **changes: object) -> None:
    path = root / "light" / "1" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_published_is_read_again(tmp_path: Path) -> None:
    about = put(tmp_path, metrics={"auc": 0.7}, extra={"seed": 7})

    artifact = Repository(tmp_path).read("light", "1")

    assert artifact.metadata == about
    assert artifact.content == CONTENT
    assert artifact.metadata.extra == {"seed": 7}
    assert artifact.metadata_bytes == (tmp_path / "light/1/metadata.json").read_bytes()


def test_models_and_versions_are_ordered(tmp_path: Path) -> None:
    for version in ("10", "2", "1.9", "1.10"):
        put(tmp_path, version=version)
    put(tmp_path, name="heavy")
    (tmp_path / "empty").mkdir()
    (tmp_path / "light" / ".draft-x").mkdir()

    repository = Repository(tmp_path)

    assert repository.models() == ["heavy", "light"]
    assert repository.versions("light") == ["1.9", "1.10", "2", "10"]
    assert repository.versions("nobody") == []


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=1, max_size=4)
)
def test_dotted_numbers_order_as_numbers(a: list[int], b: list[int]) -> None:
    assert (a < b) == (version_key(".".join(map(str, a))) < version_key(".".join(map(str, b))))


@given(st.text("0123456789abcdefgz.-+_", min_size=1), st.text("0123456789abcdefgz.-+_", min_size=1))
def test_versions_have_a_total_order(a: str, b: str) -> None:
    assert (a == b) == (version_key(a) == version_key(b))


def test_a_further_check_sees_the_bytes_that_are_handed_out(tmp_path: Path) -> None:
    put(tmp_path)
    seen: list[Artifact] = []

    artifact = Repository(tmp_path, checks=[seen.append]).read("light", "1")

    assert seen == [artifact]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "other"}, "name is 'other', the folder says 'light'"),
        ({"version": "2"}, "version is '2'"),
        ({"sha256": "abc"}, "sha256: String should match"),
        ({"backend": ""}, "backend: String should have at least 1"),
        ({"inputs": []}, "inputs: Tuple should have at least 1"),
        ({"inputs": ["x"]}, r"inputs\[0\]: Input should be a dictionary"),
        ({"outputs": [{"dtype": "float32"}]}, r"outputs\[0\].name"),
        ({"outputs": [{"name": "y", "dtype": "FP32"}]}, r"outputs\[0\].dtype: is 'FP32', not one of"),
        (
            {"inputs": [{"name": "x", "dtype": "float32", "row_shape": [-1, 3]}]},
            r"inputs\[0\].row_shape\[0\]: Input should be greater than 0",
        ),
        ({"inputs": [{"name": "x", "dtype": "int8"}] * 2}, "inputs: name one tensor twice"),
        ({"metrics": [1]}, "metrics: Input should be a valid dictionary"),
        ({"max_rows": 0}, "max_rows: Input should be greater than 0"),
        ({"files": {"a": "b"}}, "files.a: String should match"),
        ({"lineage": "x"}, "lineage: Input should be a valid dictionary"),
        ({"artifact": "../../../etc/passwd"}, "no file name"),
        ({"artifact": "/etc/passwd"}, "no file name"),
        ({"artifact": "metadata.json"}, "names .* twice"),
        ({"artifact": "model.sig"}, "names .* twice"),
        ({"artifact": "samples", "files": {"samples": "0" * 64}}, "names .* twice"),
    ],
)
def test_bad_metadata_is_named(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    put(tmp_path)
    rewrite(tmp_path, **changes)

    with pytest.raises(RepositoryError, match=says):
        Repository(tmp_path).read("light", "1")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe\x00", b"7", b"[" * 100_000])
def test_metadata_that_is_no_object(tmp_path: Path, content: bytes) -> None:
    put(tmp_path)
    (tmp_path / "light/1/metadata.json").write_bytes(content)

    with pytest.raises(RepositoryError, match=r"metadata.json: not "):
        Repository(tmp_path).metadata("light", "1")


def test_a_version_may_be_written_as_a_number(tmp_path: Path) -> None:
    put(tmp_path)
    rewrite(tmp_path, version=1)

    assert Repository(tmp_path).metadata("light", "1").version == "1"


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../light", "a/b", "/etc", "a\\b", "a\x00", "a" * 129, "a..b"]
)
def test_paths_are_refused_as_names(tmp_path: Path, name: str) -> None:
    put(tmp_path)
    repository = Repository(tmp_path)

    for model, version in ((name, "1"), ("light", name)):
        with pytest.raises(RepositoryError, match=r"is no .* name"):
            repository.read(model, version)
    with pytest.raises(RepositoryError, match=r"is no .* name"):
        publish(tmp_path, name, "1", CONTENT, inputs=[X], outputs=[Y])


def test_missing_things_are_named_with_what_there_is(tmp_path: Path) -> None:
    put(tmp_path)
    repository = Repository(tmp_path)

    with pytest.raises(RepositoryError, match=r"version '3': can't read metadata.json .*there are: 1"):
        repository.read("light", "3")
    (tmp_path / "light/1/model.onnx").unlink()
    with pytest.raises(RepositoryError, match=r"can't read model.onnx"):
        repository.read("light", "1")
    with pytest.raises(RepositoryError, match="can't list the folder"):
        Repository(tmp_path / "nowhere").models()


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
