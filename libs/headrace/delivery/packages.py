"""Packages: images without an operating system, for targets that run services as processes of one machine.

A package is an OCI artifact whose one layer is a tar of the code. It travels, is signed and is deployed as a container image is.
The layer is the same for equal files, so that equal code has an equal digest.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from headrace.delivery.errors import DeliveryError
from headrace.delivery.manifest import reference
from headrace.delivery.oci import Registry, checked_digest

ARTIFACT = "application/vnd.headrace.package.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
# What the services run on, beside the Python environment. `deploy` has the documents and runbooks that they read.
PARTS = ("libs", "services", "deploy")
_LEFT_OUT = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})
_TITLE = "org.opencontainers.image.title"


def build(registry: Registry, root: Path, services: Iterable[str]) -> dict[str, str]:
    """Packs the code below `root`, tags a package for each service; returns digest by service. Raises DeliveryError, OSError."""
    content = _tar(root)
    layer = {"mediaType": _LAYER, "digest": registry.put(content), "size": len(content)}
    made = {}
    for service in services:
        if not (root / "services" / service / "__main__.py").is_file():
            raise DeliveryError(f"{root} has no services/{service}; name a checkout of headrace")
        named = {**layer, "annotations": {_TITLE: service}}
        made[service] = registry.put_manifest([named], ARTIFACT)
        registry.tag(reference(service), made[service])
    return made


def unpack(registry: Registry, digest: str, folder: Path) -> Path:
    """The package's files in `folder`/DIGEST, which is there as a whole or not at all. Raises DeliveryError, OSError."""
    target = folder / checked_digest(digest).removeprefix("sha256:")[:32]
    if target.is_dir():
        return target
    manifest = registry.json(digest)
    layers = manifest.get("layers")
    if manifest.get("artifactType") != ARTIFACT or not isinstance(layers, list) or len(layers) != 1:
        raise DeliveryError(
            f"{digest} is no package; processes of a home need one (`headrace deliver publish` without --images)"
        )
    content = registry.blob(str(layers[0].get("digest", "")))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=folder) as fresh:
        whole = Path(fresh) / "package"
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
                tar.extractall(whole, filter="data")
        except tarfile.TarError as error:
            raise DeliveryError(f"the package {digest} can't be unpacked: {error}") from None
        whole.rename(target)
    return target


def forget(folder: Path, kept: Iterable[Path]) -> None:
    """Removes the packages that are not among `kept`."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path not in set(kept):
            shutil.rmtree(path, ignore_errors=True)


def _tar(root: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(p for part in PARTS for p in (root / part).rglob("*")):
            if path.is_file() and not path.is_symlink() and not _LEFT_OUT & set(path.relative_to(root).parts):
                member = tarfile.TarInfo(path.relative_to(root).as_posix())
                # No times, owners and other rights: they differ from checkout to checkout.
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    tar.addfile(member, file)
    return stream.getvalue()
