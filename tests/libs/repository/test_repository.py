"""The model repository: what is read is what was published, and nothing else is."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.repository import Artifact, Metadata, Repository, RepositoryError, publish, version_key
from tests.libs.repository.signed_models import CONTENT, X, Y


def put(root: Path, name: str = "light", version: str = "1") -> Metadata:
    return publish(
        root, name, version, CONTENT, inputs=[X], outputs=[Y], metrics={"auc": 0.7}, extra={"seed": 7}
    )


def rewrite(root: Path, **changes: object) -> None:
    path = root / "light" / "1" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_published_is_read_again(tmp_path: Path) -> None:
    about = put(tmp_path)

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


def test_a_published_version_never_changes(tmp_path: Path) -> None:
    put(tmp_path)

    with pytest.raises(RepositoryError, match="published already; choose a new version"):
        put(tmp_path)
    assert sorted(p.name for p in (tmp_path / "light").iterdir()) == ["1"]
