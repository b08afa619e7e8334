"""Signatures: what is loaded is what was signed, whatever happens to the files; all else is refused and recorded."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.repository import Artifact, Repository, RepositoryError, Trust
from headrace.repository.signing import key_pair
from headrace.repository.storage.local_folder import Folder
from headrace.state.json_lines import entries
from tests.libs.repository.signed_models import CONTENT, SAMPLES, Signed, put, signed


@pytest.fixture
def models(tmp_path: Path) -> Signed:
    return signed(tmp_path)


def refused(models: Signed, name: str, version: str, says: str) -> None:
    """Reading it is, with these words."""
    with pytest.raises(RepositoryError, match=says):
        models.reader().read(name, version)


def edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_what_is_signed_is_read_with_its_signer_and_recorded(models: Signed) -> None:
    about = models.put(files={"samples.npz": SAMPLES}, lineage={"parents": ["light:0"]}, baseline={"rows": 9})

    artifact = models.reader().read("light", "1")

    assert artifact.metadata == about
    assert (artifact.content, artifact.files) == (CONTENT, {"samples.npz": SAMPLES})
    assert len(artifact.signer) == 64
    [entry] = entries(models.log)
    assert (entry["event"], entry["model"], entry["version"]) == ("loaded", "light", "1")
    assert (entry["sha256"], entry["signer"]) == (about.sha256, artifact.signer)


def test_the_standard_command_agrees(models: Signed) -> None:
    models.put(files={"samples.npz": SAMPLES})
    folder = models.root / "light" / "1"
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(folder / "model.sig"), "--public_key", str(models.public)]
    command += ["--ignore-paths", str(folder / "model.sig")]

    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0
    (folder / "model.onnx").write_bytes(CONTENT + b"!")
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode != 0


@pytest.mark.parametrize("file", ["model.onnx", "samples.npz", "metadata.json", "model.sig"])
@pytest.mark.parametrize("change", [b"!", None])
def test_an_altered_or_missing_file_is_refused(models: Signed, file: str, change: bytes | None) -> None:
    models.put(files={"samples.npz": SAMPLES})
    path = models.root / "light" / "1" / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + change)

    with pytest.raises(RepositoryError):
        models.reader().read("light", "1")
    assert [e["event"] for e in entries(models.log)] == ["refused"]


def test_a_model_and_digest_altered_together_are_refused(models: Signed) -> None:
    """What a checksum alone can't tell."""
    models.put()
    other = Signed(models.root.parent / "other", models.private, models.public, models.log)
    put(other.root, content=b"evil")
    for file in ("model.onnx", "metadata.json"):
        shutil.copy(other.root / "light" / "1" / file, models.root / "light" / "1" / file)
    Repository(models.root).read("light", "1")

    refused(models, "light", "1", r"metadata.json, model.onnx is not what was signed")


def test_bytes_verified_are_bytes_loaded(models: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced at the moment after it was read, before anything looks at the signature."""
    models.put()
    path = models.root / "light" / "1" / "model.onnx"
    read = Folder.read

    def then_replace(store: Folder, name: str, limit: int | None = None) -> bytes:
        content = read(store, name, limit)
        if name.endswith("model.onnx"):
            path.write_bytes(b"evil")
        return content

    monkeypatch.setattr(Folder, "read", then_replace)
    assert models.reader().read("light", "1").content == CONTENT
    refused(models, "light", "1", r"model\.onnx is not what was signed")


def test_unsigned_models_are_refused_unless_the_reader_says_so(models: Signed) -> None:
    put(models.root)

    refused(models, "light", "1", r"it is not signed; .*headrace models add")
    assert models.reader(accept_unsigned=True).read("light", "1").signer == ""
    assert Repository(models.root).read("light", "1").signer == ""


def test_no_trusted_key_trusts_nobody(models: Signed) -> None:
    models.put()
    with pytest.raises(RepositoryError, match=r"not trusted here \(trusted: none\)"):
        Repository(models.root, trust=Trust()).read("light", "1")


def test_another_key_is_refused_and_a_second_trusted_one_is_not(models: Signed, tmp_path: Path) -> None:
    private, public = tmp_path / "new.key", tmp_path / "new.pub"
    key_pair.generate(private, public)
    models.put()
    models.put(name="heavy", key=private)

    refused(models, "heavy", "1", "which is not trusted here")
    both = Repository(models.root, trust=Trust((models.public, public)))
    assert both.read("heavy", "1").signer != both.read("light", "1").signer


def test_an_old_version_in_the_place_of_a_new_one_is_refused(models: Signed) -> None:
    models.put("1")
    models.put("2", content=b"newer")
    newer = models.root / "light" / "2"
    shutil.rmtree(newer)
    shutil.copytree(models.root / "light" / "1", newer)

    refused(models, "light", "2", "version is '1', the folder says '2'")
    edit(newer / "metadata.json", lambda d: d.update(version="2"))
    refused(models, "light", "2", "metadata.json is not what was signed")


def test_what_was_signed_but_is_not_what_the_index_lists_is_refused(models: Signed, tmp_path: Path) -> None:
    """A removed version that comes back, an older one under the number of another, a whole folder of last month."""
    old = models.put("1")
    shutil.copytree(models.root, tmp_path / "copy")
    shutil.rmtree(models.root)
    new = models.put("1", content=b"newer")
    assert models.reader(new).read("light", "1").content == b"newer"
    shutil.rmtree(models.root)
    shutil.copytree(tmp_path / "copy", models.root)

    with pytest.raises(RepositoryError, match="not the one that the index lists"):
        models.reader(new).read("light", "1")
    with pytest.raises(RepositoryError, match="not the one that the index lists"):
        models.reader(new).file("light", "1", "baseline.json", 100)
    gone = models.reader(models.put("2"))
    for read in (gone.read, lambda name, version: gone.file(name, version, "baseline.json", 100)):
        with pytest.raises(RepositoryError, match=r"no such version in the index \(there are: 2\)"):
            read("light", "1")
    assert models.reader(old).read("light", "1").signer
    assert {e["event"] for e in entries(models.log)} == {"loaded", "refused"}


def test_a_further_file_without_an_index_is_verified_with_the_whole_version(models: Signed) -> None:
    models.put(files={"samples.npz": SAMPLES})
    assert models.reader().file("light", "1", "samples.npz", 100)[1] == SAMPLES
    assert models.reader().file("light", "1", "none", 100)[1] is None
    (models.root / "light/1/model.onnx").write_bytes(b"evil")
    with pytest.raises(RepositoryError, match=r"model\.onnx is not what was signed"):
        models.reader().file("light", "1", "samples.npz", 100)


def test_a_newer_version_taken_away_is_missed(models: Signed) -> None:
    """Without the index, the older version would quietly become the newest."""
    reader = models.reader(models.put("1"), models.put("2", content=b"newer"))
    shutil.rmtree(models.root / "light" / "2")

    assert reader.versions("light") == ["1", "2"]
    with pytest.raises(RepositoryError, match=r"can't read metadata.json .*there are: 1"):
        reader.read("light", "2")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_single_changed_byte_gets_through(models: Signed, data: st.DataObject) -> None:
    """Any byte of any file of a signed model; what is read all the same is exactly what was published."""
    if not models.root.exists():
        models.put(files={"samples.npz": SAMPLES})
    files = sorted(p for p in models.root.rglob("*") if p.is_file())
    path = data.draw(st.sampled_from(files))
    kept = path.read_bytes()
    at, flip = data.draw(st.integers(0, len(kept) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(kept[:at] + bytes([kept[at] ^ flip]) + kept[at + 1 :])
    try:
        found: Artifact | None = models.reader().read("light", "1")
    except RepositoryError:
        found = None
    finally:
        path.write_bytes(kept)
    # A byte that says nothing (a blank in JSON) may change; the model may not.
    assert found is None or (found.content, found.files) == (CONTENT, {"samples.npz": SAMPLES})
    assert found is None or path.suffix in (".sig", ".json")


HOSTILE = [b"", b"{}", b"[1]", b"\xff", b'{"verificationMaterial":{"publicKey":{"hint":7}}}', b"[" * 90_000]


@pytest.mark.parametrize("signature", HOSTILE)
def test_a_hostile_signature_is_refused(models: Signed, signature: bytes) -> None:
    models.put()
    (models.root / "light/1/model.sig").write_bytes(signature)
    refused(models, "light", "1", "its signature does not hold")


def test_what_can_not_be_recorded_is_not_handed_out(models: Signed) -> None:
    models.put()
    models.log.mkdir()
    refused(models, "light", "1", r"the access log .* can't be written")
