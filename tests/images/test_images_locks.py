"""The locks and bills of materials of the images: parts of the one lock, up to date, and without the address of an index."""

import hashlib
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.images import context, locks, sbom
from deploy.images.__main__ import BUDGET_MB
from deploy.images.context import ImageError
from deploy.images.debian import Package
from deploy.images.gpu import parts
from headrace.cli.installation import services

IMAGES = locks.names(services.start_order())
WHOLE = list(locks.parsed((locks.ROOT / "requirements.lock").read_text()))
FOR_GPUS = list(locks.parsed(locks.GPU_LOCK.read_text()))
CONTAINERFILE = (locks.ROOT / "deploy" / "images" / "Containerfile").read_text()


def committed(image: str) -> list[locks.Locked]:
    return list(locks.parsed((locks.FOLDER / f"{image}.lock").read_text()))


def test_the_locks_are_what_pyproject_and_the_one_lock_say() -> None:
    kept = {path.stem: path.read_text() for path in locks.FOLDER.iterdir()}
    assert kept == locks.all_made(IMAGES), "make images-locks"


@pytest.mark.parametrize("image", IMAGES)
def test_a_lock_is_a_part_of_the_one_lock(image: str) -> None:
    """That of executor-gpu: of it and of the one for GPUs."""
    others = FOR_GPUS if image == locks.GPU else []
    whole = {(package.name, package.version): package.hashes for package in (*others, *WHOLE)}
    assert all(whole[package.name, package.version] == package.hashes for package in committed(image))
    assert "://" not in (locks.FOLDER / f"{image}.lock").read_text()


def test_which_images_have_what_is_large_or_reaches_a_store() -> None:
    contents = {image: {package.name for package in committed(image)} for image in IMAGES}

    def those_with(*names: str) -> set[str]:
        return {image for image, packages in contents.items() if packages & set(names)}

    leaves = {"router", "preprocessing", "postprocessing"}
    assert not leaves & those_with("pyarrow", "onnxruntime", "pandas", "feast", "pyvoy", "grpcio-tools")
    assert leaves & those_with("cryptography", "redis") == {"router"}
    # Who verifies models can.
    assert {"router", "executor", "monitoring", "edge"} <= those_with("model-signing")
    assert {"router", "ingress", "monitoring", "features", "edge"} <= those_with("redis")
    # These alone open a database.
    assert those_with("sqlalchemy") & those_with("psycopg-binary") == {"control", "monitoring", "edge"}


def test_the_edge_image_has_what_each_service_has() -> None:
    whole = {package.name for package in committed("edge")}
    services_ = [image for image in IMAGES if image != locks.GPU]
    assert whole == {package.name for image in services_ for package in committed(image)}


def test_the_executor_on_gpus_has_what_the_executor_has_and_what_its_extra_names() -> None:
    own = {package.name: package for package in committed(locks.GPU)}
    executor = {package.name: package for package in committed("executor")}
    assert executor.keys() - own.keys() == {"onnxruntime"}
    assert all(own[name] == executor[name] for name in executor.keys() - {"onnxruntime"})
    project = tomllib.loads((locks.ROOT / "pyproject.toml").read_text())["project"]
    named = [Requirement(text) for text in project["optional-dependencies"]["gpu"][1:]]
    for requirement in named:
        # It has no wheel here, see --wheels.
        if requirement.name != "tensorrt":
            assert own[requirement.name].version in requirement.specifier
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu13", "tensorrt-rtx-cu13-libs"} <= own.keys()


def entry(name: str, version: str, digest: str = "0" * 64) -> str:
    """A package of a lock, as uv writes it."""
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


def test_locks_of_two_versions_of_a_package_are_refused() -> None:
    with pytest.raises(locks.LockError, match="numpy is 2 for executor-gpu, but 1 elsewhere"):
        locks.with_gpu(entry("numpy", "1"), entry("numpy", "2") + entry("onnxruntime-gpu", "1"))
    with pytest.raises(locks.LockError, match="lacks onnxruntime-gpu"):
        locks.with_gpu(entry("numpy", "1"), entry("numpy", "1"))


def wheels_lock(folder: Path, text: str) -> Path:
    (folder / parts.WHEELS_LOCK).write_text(text)
    return folder


def test_wheels_of_a_folder_come_in_the_place_of_tensorrt_for_rtx_cards(tmp_path: Path) -> None:
    full = {f"tensorrt-cu13{part}" for part in ("", "-bindings", "-libs")}
    text = "".join(entry(name, "11.4.0.106") for name in sorted(full))
    found = {package.name for package in parts.locked(wheels_lock(tmp_path, text))}
    default = {package.name for package in parts.locked(None)}
    assert default - found == {name.replace("tensorrt", "tensorrt-rtx") for name in full}
    assert found - default == full


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that no index has."""
    path = tmp_path / "tensorrt_nowhere-1-py3-none-any.whl"
    about = "tensorrt_nowhere-1.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("tensorrt_nowhere.py", "")
        packed.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tensorrt-nowhere\nVersion: 1\n")
        packed.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{about}/RECORD", "")
    return path


def test_a_wheel_of_a_folder_is_installed(wheel: Path) -> None:
    lock = parts.lock_wheels(wheel.parent)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert lock.read_text() == entry("tensorrt-nowhere", "1", digest)
    context.install(wheel.parent / "site", lock, "--find-links", wheel.parent, "--offline")
    assert (wheel.parent / "site" / "tensorrt_nowhere.py").exists()


def test_a_wheel_that_is_not_that_of_the_lock_is_refused(wheel: Path) -> None:
    lock = wheels_lock(wheel.parent, entry("tensorrt-nowhere", "1")) / parts.WHEELS_LOCK
    with pytest.raises(ImageError, match="Hash mismatch"):
        context.install(wheel.parent / "site", lock, "--find-links", wheel.parent, "--offline")


def test_each_image_has_a_recipe_and_a_budget() -> None:
    targets = re.findall(
        r"^FROM service AS ([\w-]+)\n(?:(?:COPY|ENV|#) .*\n)*ENTRYPOINT .*\"services\.(\w+)\"\]$",
        CONTAINERFILE,
        re.MULTILINE,
    )
    assert dict(targets) == {image: locks.service_of(image) for image in IMAGES}
    assert set(IMAGES) == BUDGET_MB.keys()


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


def test_the_bill_of_the_executor_on_gpus_names_what_was_compiled_and_what_came_as_wheels(
    tmp_path: Path,
) -> None:
    packages = parts.locked(wheels_lock(tmp_path, entry("tensorrt-cu13", "11.4.0.106")))
    purls = {found["purl"] for found in sbom.bill(locks.GPU, "latest", packages, [])["components"]}
    assert {"pkg:pypi/pycuda@2026.1", "pkg:pypi/tensorrt-cu13@11.4.0.106"} < purls
