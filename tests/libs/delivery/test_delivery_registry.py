"""The registry in a folder, signatures and manifests: what is refused, and what others' tools make of it."""

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.delivery import manifest, packages, signatures
from headrace.delivery.errors import DeliveryError
from headrace.delivery.manifest import Manifest
from headrace.delivery.oci import Registry
from tests.libs.delivery.delivery_world import Keys, image, registry

SERVICE = "router"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.made(tmp_path)


@pytest.fixture
def published(tmp_path: Path, keys: Keys) -> tuple[Registry, Manifest]:
    target = registry(tmp_path)
    made = Manifest("1.0", {SERVICE: image(target)}, "abc", "2026-05-04T11:00:00+00:00")
    manifest.publish(target, made, keys.private)
    return target, made


def refused(target: Registry, version: str, public: Path, says: str) -> None:
    """Its manifest is, with these words."""
    with pytest.raises(DeliveryError, match=says):
        manifest.verified(target, version, [public])


def test_an_image_without_digest_is_refused(published: tuple[Registry, Manifest], keys: Keys) -> None:
    target, made = published
    for name in ("", "latest", "router:1.0", "sha256:abc"):
        with pytest.raises(DeliveryError, match="is no digest"):
            manifest.publish(target, replace(made, version="2.0", images={SERVICE: name}), keys.private)
    assert "2.0" not in target.tags()


def test_a_signature_of_another_key_is_refused(published: tuple[Registry, Manifest], tmp_path: Path) -> None:
    target, _ = published
    other = Keys.made(tmp_path, "other")
    refused(target, "1.0", other.public, r"no signature of .* verifies with")


def test_an_unsigned_image_and_a_moved_signature_are_refused(
    published: tuple[Registry, Manifest], keys: Keys
) -> None:
    target, made = published
    other = image(target, b"other code")
    with pytest.raises(DeliveryError, match="is not signed"):
        signatures.verify(target, other, manifest.reference(SERVICE), [keys.public])
    # Somebody gives it the signature of the other one.
    signed = target.resolve(f"{made.images[SERVICE].replace(':', '-')}.sig")
    target.tag(f"{other.replace(':', '-')}.sig", signed)
    with pytest.raises(DeliveryError, match="valid for something else"):
        signatures.verify(target, other, manifest.reference(SERVICE), [keys.public])
    # And an image of one service is not that of another one.
    with pytest.raises(DeliveryError, match="valid for something else"):
        signatures.verify(target, made.images[SERVICE], manifest.reference("executor"), [keys.public])


def test_one_image_of_two_services_signed_by_two_keys(tmp_path: Path, keys: Keys) -> None:
    target, later = registry(tmp_path), Keys.made(tmp_path, "later")
    made = Manifest("1.0", dict.fromkeys(("preprocessing", "postprocessing"), image(target)))
    manifest.publish(target, made, keys.private)
    manifest.publish(target, replace(made, version="1.1"), later.private)
    assert manifest.verified(target, "1.0", [keys.public]) == made
    assert manifest.verified(target, "1.1", [later.public]).version == "1.1"
    # Signing again what is signed adds nothing.
    before = target.tags()
    manifest.publish(target, made, keys.private)
    assert target.tags() == before


def test_a_manifest_of_another_version_is_refused(published: tuple[Registry, Manifest], keys: Keys) -> None:
    target, _ = published
    target.tag("2.0", target.resolve("1.0"))
    refused(target, "2.0", keys.public, "valid for something else")
    # Even one that its publisher signed as that.
    signatures.sign(target, target.resolve("1.0"), "version 2.0", keys.private)
    refused(target, "2.0", keys.public, r"that of version 1\.0")


def test_a_manifest_of_another_format_is_refused(
    published: tuple[Registry, Manifest], keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, made = published
    monkeypatch.setattr(manifest, "FORMAT", 2)
    manifest.publish(target, replace(made, version="2.0"), keys.private)
    monkeypatch.setattr(manifest, "FORMAT", 1)
    refused(target, "2.0", keys.public, "format 2, this headrace knows 1")


def test_a_version_never_changes(published: tuple[Registry, Manifest], keys: Keys) -> None:
    target, made = published
    manifest.publish(target, made, keys.private)  # the same again
    with pytest.raises(DeliveryError, match="published with other images"):
        manifest.publish(target, replace(made, images={SERVICE: image(target, b"new")}), keys.private)
    assert manifest.verified(target, "1.0", [keys.public]) == made


def test_altered_bytes_are_refused(published: tuple[Registry, Manifest], keys: Keys) -> None:
    target, made = published
    path = target.folder / "blobs" / "sha256" / made.images[SERVICE].removeprefix("sha256:")
    path.write_bytes(path.read_bytes() + b" ")
    refused(target, "1.0", keys.public, "other bytes than its digest names")
    path.unlink()
    refused(target, "1.0", keys.public, "has no blob")


def test_what_is_no_tag_or_no_registry_is_refused(
    published: tuple[Registry, Manifest], keys: Keys, tmp_path: Path
) -> None:
    for name in ("", "-x", "a/b", "../x", "sha256-ab.sig", "x" * 129):
        refused(published[0], name, keys.public, "can't name a version")
    refused(Registry(tmp_path), "1.0", keys.public, "no index of an OCI layout")


def test_images_are_taken_with_all_their_parts(published: tuple[Registry, Manifest], tmp_path: Path) -> None:
    target, made = published
    other = Registry(tmp_path / "other")
    other.make()
    other.take(target, made.images[SERVICE])
    other.tag("x", made.images[SERVICE])
    [layer] = other.json(other.resolve("x"))["layers"]
    assert other.blob(layer["digest"]) == b"code"
    path = target.folder / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
    third = Registry(tmp_path / "third")
    third.make()
    path.write_bytes(b"other code")
    with pytest.raises(DeliveryError, match="holds other bytes"):
        third.take(target, made.images[SERVICE])
    path.unlink()
    with pytest.raises(DeliveryError, match="has no blob"):
        third.take(target, made.images[SERVICE])
    assert not list((third.folder / "blobs" / "sha256").iterdir())


def test_openssl_verifies_a_signature_as_cosign_would(
    published: tuple[Registry, Manifest], keys: Keys
) -> None:
    target, made = published
    digest = made.images[SERVICE]
    [layer] = target.json(target.resolve(f"{digest.replace(':', '-')}.sig"))["layers"]
    payload = json.loads(target.blob(layer["digest"]))
    assert payload["critical"]["image"]["docker-manifest-digest"] == digest
    folder = keys.public.parent
    (folder / "payload").write_bytes(target.blob(layer["digest"]))
    signature = layer["annotations"]["dev.cosignproject.cosign/signature"]
    (folder / "signature").write_bytes(base64.b64decode(signature))
    openssl = shutil.which("openssl")
    assert openssl
    command = [openssl, "dgst", "-sha256", "-verify", "models.pub", "-signature", "signature", "payload"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert "Verified OK" in done.stdout


def test_a_package_is_the_same_for_the_same_code_and_comes_out_as_it_went_in(tmp_path: Path) -> None:
    target = registry(tmp_path)
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        for name in ("services/router/__main__.py", "services/features/__main__.py", "libs/headrace/x.py"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"# {name}")
        (root / "libs" / "headrace" / "__pycache__").mkdir()
        (root / "libs" / "headrace" / "__pycache__" / "x.pyc").write_bytes(str(root).encode())
    made = [packages.build(target, root, ["router", "features"]) for root in roots]
    assert made[0] == made[1]
    assert len(set(made[0].values())) == 2
    folder = packages.unpack(target, made[0]["router"], tmp_path / "home")
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {"services/router/__main__.py", "services/features/__main__.py", "libs/headrace/x.py"}
    with pytest.raises(DeliveryError, match="is no package"):
        packages.unpack(target, image(target), tmp_path / "home")
    with pytest.raises(DeliveryError, match="has no services/monitoring"):
        packages.build(target, roots[0], ["monitoring"])
    packages.forget(tmp_path / "home", [])
    assert not list((tmp_path / "home").iterdir())
