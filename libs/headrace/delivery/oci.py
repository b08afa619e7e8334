"""A registry in a folder: the image layout of OCI (`index.json`, `blobs/sha256/…`), which podman, skopeo and cosign read too.

Blobs are named by their SHA-256, and every reading compares them with it, so a digest names the same bytes for ever.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.delivery.errors import DeliveryError
from headrace.state import atomic

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_TAG = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# A manifest has a few hundred bytes per layer.
_MAX_JSON = 4 << 20
_BLOCK = 1 << 20


def checked_digest(digest: str) -> str:
    """The digest. Raises DeliveryError for anything else, such as a tag: it may name other bytes tomorrow."""
    if not _DIGEST.fullmatch(digest):
        raise DeliveryError(
            f"{digest or 'an image'!r} is no digest; name an image by sha256:…, a tag may be moved"
        )
    return digest


class Registry:
    """The layout in `folder`. One writer at a time; readers see whole files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Makes an empty one, unless there is one. Raises OSError."""
        (self.folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        for name, content in (("oci-layout", _LAYOUT), ("index.json", _index([]))):
            if not (self.folder / name).exists():
                atomic.write(self.folder / name, json.dumps(content).encode())

    def put(self, content: bytes) -> str:
        """Stores a blob; returns its digest. Raises OSError."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self._path(digest).exists():
            atomic.write(self._path(digest), content)
        return digest

    def blob(self, digest: str) -> bytes:
        """Raises DeliveryError: it is not there, or other bytes are."""
        path = self._path(checked_digest(digest))
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DeliveryError(
                f"{self.folder} has no blob {digest} ({error.strerror}); publish the version again"
            ) from None
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise DeliveryError(f"{path} holds other bytes than its digest names; publish the version again")
        return content

    def json(self, digest: str) -> dict[str, Any]:
        """A blob that is a JSON object. Raises DeliveryError."""
        content = self.blob(digest)
        try:
            found = json.loads(content) if len(content) <= _MAX_JSON else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise DeliveryError(f"{self.folder}: the blob {digest} is no JSON object")
        return found

    def put_manifest(self, layers: Sequence[Mapping[str, Any]], artifact: str, config: bytes = b"{}") -> str:
        """Stores a manifest of the artifact type `artifact`; returns its digest. Raises OSError."""
        about = {"mediaType": EMPTY, "digest": self.put(config), "size": len(config)}
        made = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact}
        return self.put(json.dumps({**made, "config": about, "layers": list(layers)}).encode())

    def tags(self) -> dict[str, str]:
        """Name → digest. Raises DeliveryError."""
        path = self.folder / "index.json"
        try:
            listed = json.loads(path.read_bytes())["manifests"]
            return {
                tag: str(entry["digest"])
                for entry in listed
                if isinstance(tag := entry.get("annotations", {}).get(_TAG), str)
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeliveryError(
                f"{path} is no index of an OCI layout ({error}); name a registry folder"
            ) from None

    def resolve(self, tag: str) -> str:
        """The digest that a tag names now. Raises DeliveryError."""
        tags = self.tags()
        if tag not in tags:
            raise DeliveryError(
                f"{self.folder} has no {tag!r}; there are: {', '.join(sorted(tags)) or 'none'}"
            )
        return checked_digest(tags[tag])

    def tag(self, name: str, digest: str) -> None:
        """Has a tag name a manifest that is here. Raises DeliveryError, OSError."""
        size = len(self.blob(digest))
        named = {**self.tags(), name: digest}
        entries = [
            {
                "mediaType": MANIFEST,
                "digest": each,
                "size": size if each == digest else len(self.blob(each)),
                "annotations": {_TAG: tag},
            }
            for tag, each in sorted(named.items())
        ]
        atomic.write(self.folder / "index.json", json.dumps(_index(entries)).encode())

    def take(self, other: Registry, digest: str) -> None:
        """Copies a manifest and all that it names from another registry; each blob is compared with its digest.

        Raises DeliveryError, OSError.
        """
        manifest = other.json(digest)
        parts = [*manifest.get("layers", []), *manifest.get("manifests", [])]
        if isinstance(config := manifest.get("config"), dict):
            parts.append(config)
        for part in parts:
            inner = str(part.get("digest", ""))
            if part.get("mediaType") in (MANIFEST, _INDEX):
                self.take(other, inner)
            else:
                self._copy(other, inner)
        self.put(other.blob(digest))

    def _copy(self, other: Registry, digest: str) -> None:
        """Copies a blob block by block: layers have hundreds of megabytes. Raises DeliveryError, OSError."""
        target, hashed = self._path(checked_digest(digest)), hashlib.sha256()
        if target.exists():
            return
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with other._path(digest).open("rb") as source, part.open("xb") as copy:
                while block := source.read(_BLOCK):
                    hashed.update(block)
                    copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())
            if f"sha256:{hashed.hexdigest()}" != digest:
                raise DeliveryError(
                    f"{other.folder}: the blob {digest} holds other bytes; build the image again"
                )
            part.replace(target)
        except FileNotFoundError:
            raise DeliveryError(f"{other.folder} has no blob {digest}; build the image again") from None
        finally:
            part.unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _index(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": _INDEX, "manifests": list(entries)}
