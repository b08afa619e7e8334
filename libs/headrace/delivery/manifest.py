"""The manifest of a version: which image each service is, and of which commit; stored and signed beside the images."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from headrace.delivery import signatures
from headrace.delivery.errors import DeliveryError
from headrace.delivery.oci import Registry, checked_digest

FORMAT = 1
ARTIFACT = "application/vnd.headrace.version.v1+json"
_LAYER = "application/vnd.headrace.version.manifest.v1+json"
# As tags of OCI, without what would be another's tag (`sha256-….sig`).
_VERSION = re.compile(r"(?!sha256-)[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """`images`: digest by service. `commit`: of the code; may be empty. `made_at`: ISO 8601."""

    version: str
    images: Mapping[str, str]
    commit: str = ""
    made_at: str = ""


def checked_version(version: str) -> str:
    """Raises DeliveryError unless it can be a tag."""
    if not _VERSION.fullmatch(version):
        raise DeliveryError(f"{version!r} can't name a version: 1 to 128 letters, digits, '.', '_' and '-'")
    return version


def reference(service: str) -> str:
    """What the image of a service is called, and what its signature names."""
    return f"headrace-{service}"


def publish(registry: Registry, manifest: Manifest, private_key: Path) -> str:
    """Signs the images and the manifest, and tags the manifest with its version. Returns its digest.

    Raises DeliveryError, also if the version is there with other images: what was deployed must stay what it was; OSError.
    """
    checked_version(manifest.version)
    for image in manifest.images.values():
        registry.json(checked_digest(image))
    digest = registry.tags().get(manifest.version)
    if digest is None:
        content = json.dumps({"format": FORMAT, **asdict(manifest)}, sort_keys=True).encode()
        layer = {"mediaType": _LAYER, "digest": registry.put(content), "size": len(content)}
        digest = registry.put_manifest([layer], ARTIFACT)
    elif _read(registry, digest).images != dict(manifest.images):
        raise DeliveryError(
            f"version {manifest.version} is published with other images; give this one a new name"
        )
    for service, image in manifest.images.items():
        signatures.sign(registry, image, reference(service), private_key)
    signatures.sign(registry, digest, f"version {manifest.version}", private_key)
    registry.tag(manifest.version, digest)
    return digest


def verified(registry: Registry, version: str, public_keys: Sequence[Path]) -> Manifest:
    """The manifest of a version, after its signature and those of all images were verified. Raises DeliveryError, OSError."""
    digest = registry.resolve(checked_version(version))
    signatures.verify(registry, digest, f"version {version}", public_keys)
    manifest = _read(registry, digest)
    if manifest.version != version:
        raise DeliveryError(f"the manifest under {version!r} is that of version {manifest.version}; refused")
    for service, image in manifest.images.items():
        signatures.verify(registry, image, reference(service), public_keys)
        registry.json(image)
    return manifest


def _read(registry: Registry, digest: str) -> Manifest:
    try:
        [layer] = registry.json(digest)["layers"]
        told = registry.json(str(layer["digest"]))
        number = told.pop("format")
        if number == FORMAT:
            images = {str(name): checked_digest(str(image)) for name, image in told["images"].items()}
            return Manifest(str(told["version"]), images, str(told["commit"]), str(told["made_at"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeliveryError(f"{registry.folder}: {digest} is no manifest of a version ({error})") from None
    raise DeliveryError(
        f"the manifest {digest} has format {number!r}, this headrace knows {FORMAT}; deploy with another"
    )
