"""The bill of materials of an image, in CycloneDX 1.6: what its lock and Debian's packages say; the same for each build."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from deploy.images.debian import Package
from deploy.images.locks import Locked

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://headrace.invalid/sbom")


def bill(service: str, version: str, python: Iterable[Locked], debian: Iterable[Package]) -> dict[str, Any]:
    """The bill of a service's image. A Python package has the hashes of all its files that the lock allows, for any machine."""
    components = [*map(_debian, debian), *map(_python, python)]
    subject = {"type": "container", "bom-ref": "image", "name": f"headrace-{service}", "version": version}
    refs = "\n".join(component["bom-ref"] for component in components)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{service} {version} {refs}')}",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
        "dependencies": [{"ref": "image", "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _python(package: Locked) -> dict[str, Any]:
    purl = f"pkg:pypi/{package.name}@{package.version}"
    # Which of them was installed depends on the machine, so they are parts of the package and not hashes of it.
    files = [{"type": "file", "name": f"sha256:{one}", "hashes": [_hash(one)]} for one in package.hashes]
    return _library(package.name, package.version, purl) | {"components": files}


def _debian(package: Package) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{quote(package.name)}@{quote(package.version)}?arch={package.architecture}&distro=debian-13"
    return _library(package.name, package.version, purl) | {"hashes": [_hash(package.sha256)]}


def _library(name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _hash(content: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": content}
