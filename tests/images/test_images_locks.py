"""The locks and bills of materials of the images: parts of the one lock, up to date, and without the address of an index."""

from __future__ import annotations

import re

import pytest

from deploy.images import locks, sbom
from deploy.images.__main__ import BUDGET_MB
from deploy.images.debian import Package
from headrace.cli.installation import services

IMAGES = locks.names(services.start_order())
WHOLE = list(locks.parsed((locks.ROOT / "requirements.lock").read_text()))
CONTAINERFILE = (locks.ROOT / "deploy" / "images" / "Containerfile").read_text()


def committed(image: str) -> list[locks.Locked]:
    return list(locks.parsed((locks.FOLDER / f"{image}.lock").read_text()))


def test_the_locks_are_what_pyproject_and_the_one_lock_say() -> None:
    kept = {path.stem: path.read_text() for path in locks.FOLDER.iterdir()}
    assert kept == locks.all_made(IMAGES), "make images-locks"


@pytest.mark.parametrize("image", IMAGES)
def test_a_lock_is_a_part_of_the_one_lock(image: str) -> None:
    whole = {(package.name, package.version): package.hashes for package in WHOLE}
    assert all(whole[package.name, package.version] == package.hashes for package in committed(image))
    assert "://" not in (locks.FOLDER / f"{image}.lock").read_text()


def test_a_leaf_has_nothing_of_other_services() -> None:
    heavy = {"pyarrow", "onnxruntime", "pandas", "feast", "pyvoy", "grpcio-tools"}
    for service in ("router", "preprocessing", "postprocessing"):
        assert not heavy & {package.name for package in committed(service)}
    for service in ("preprocessing", "postprocessing"):
        assert not {"cryptography", "redis"} & {package.name for package in committed(service)}


def test_who_verifies_models_can() -> None:
    for image in ("router", "executor", "monitoring", "edge"):
        assert "model-signing" in {package.name for package in committed(image)}


def test_what_a_cluster_shares_by_redis_can_be_reached() -> None:
    for image in ("router", "executor", "ingress", "monitoring", "features", "edge"):
        assert "redis" in {package.name for package in committed(image)}


def test_the_edge_image_has_what_each_service_has() -> None:
    whole = {package.name for package in committed("edge")}
    assert whole == {package.name for image in IMAGES for package in committed(image)}


def test_each_image_has_a_recipe_and_a_budget() -> None:
    targets = re.findall(
        r"^FROM service AS (\w+)\nENTRYPOINT .*\"services\.(\w+)\"\]$", CONTAINERFILE, re.MULTILINE
    )
    assert dict(targets) == {image: "ingress" if image == "edge" else image for image in IMAGES}
    assert set(IMAGES) == BUDGET_MB.keys()


def test_what_is_required_but_not_installed_is_said() -> None:
    with pytest.raises(locks.LockError, match="no-such-package is not installed"):
        locks.needed(["no-such-package"], {})


def test_a_package_that_the_lock_lacks_is_said() -> None:
    project = {"dependencies": ["protobuf"], "optional-dependencies": {"features": []}}
    with pytest.raises(locks.LockError, match="lacks protobuf"):
        locks.made("features", project, [])


@pytest.mark.parametrize("text", ["grpcio==1.0", "grpcio>=1.0 \\\n    --hash=sha256:" + "0" * 64, "--pre"])
def test_a_line_without_version_and_hash_is_refused(text: str) -> None:
    with pytest.raises(locks.LockError, match="make lock"):
        list(locks.parsed(text))


def test_a_marker_for_another_python_does_not_apply() -> None:
    assert not locks.Locked("x", "1", ("0" * 64,), "python_full_version < '3.12'").applies()
    assert not locks.Locked("x", "1", ("0" * 64,), "sys_platform == 'win32'").applies()
    assert locks.Locked("x", "1", ("0" * 64,), "platform_machine == 'aarch64'").applies()


def test_the_bill_names_all_packages_and_is_the_same_each_time() -> None:
    debian = [Package("libc6", "2.41-12+deb13u5", "amd64", "0" * 64)]
    bill = sbom.bill("router", "latest", committed("router"), debian)
    assert bill == sbom.bill("router", "latest", committed("router"), debian)
    names = [component["name"] for component in bill["components"]]
    assert names == ["libc6", *(package.name for package in committed("router"))]
    assert (
        bill["components"][0]["purl"] == "pkg:deb/debian/libc6@2.41-12%2Bdeb13u5?arch=amd64&distro=debian-13"
    )
    refs = [component["bom-ref"] for component in bill["components"]]
    assert bill["dependencies"] == [{"ref": "image", "dependsOn": refs}]
