"""Reading a model repository: `<root>/<model>/<version>/{metadata.json, model.onnx}`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.repository import metadata as documents
from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import Metadata
from headrace.repository.versions import check_name, version_key

METADATA = "metadata.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One version as read: the checks saw these very bytes, and these are what a backend loads."""

    metadata: Metadata
    metadata_bytes: bytes
    content: bytes


Check = Callable[[Artifact], None]
"""Looks at an artifact before anyone may use it; raises RepositoryError. A signature is one more check."""


def digest_matches(artifact: Artifact) -> None:
    """The artifact's bytes have the SHA-256 that its metadata states. Raises RepositoryError."""
    about = artifact.metadata
    found = hashlib.sha256(artifact.content).hexdigest()
    if not hmac.compare_digest(found, about.sha256):
        raise RepositoryError(
            about.name,
            about.version,
            f"{about.artifact} has SHA-256 {found[:12]}…, not {about.sha256[:12]}… as metadata.json says",
            "it was altered or half copied: restore the file, or publish the model anew",
        )


class Repository:
    """A folder of models. Reads the disk at each call; holds nothing. Safe to share between threads."""

    def __init__(self, root: Path, checks: Sequence[Check] = (digest_matches,)) -> None:
        self.root = root
        self._checks = tuple(checks)

    def models(self) -> list[str]:
        """Names of the models that have a version, sorted. Raises RepositoryError: the root can't be read."""
        return [name for name in self._folders(self.root, "", "") if self.versions(name)]

    def versions(self, model: str) -> list[str]:
        """Versions of `model`, oldest first; empty if there is none. Raises RepositoryError: a bad name."""
        folder = self.root / check_name("model", model)
        if not folder.is_dir():
            return []
        found = self._folders(folder, model, "")
        return sorted((v for v in found if (folder / v / METADATA).is_file()), key=version_key)

    def metadata(self, model: str, version: str) -> Metadata:
        """What is known about a version, without reading its artifact. Raises RepositoryError."""
        return documents.parse(self._read(model, version, METADATA), model, version)

    def read(self, model: str, version: str) -> Artifact:
        """A version with its artifact's bytes, checked. Raises RepositoryError."""
        described = self._read(model, version, METADATA)
        about = documents.parse(described, model, version)
        artifact = Artifact(about, described, self._read(model, version, about.artifact))
        for check in self._checks:
            check(artifact)
        return artifact

    def _folders(self, folder: Path, model: str, version: str) -> list[str]:
        try:
            # Hidden names are what a half-done publication or a mounted volume leaves beside the real ones.
            return sorted(
                p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))
            )
        except OSError as error:
            raise RepositoryError(
                model,
                version,
                f"can't list the folder {folder} ({error.strerror})",
                "check the path and its rights",
            ) from error

    def _read(self, model: str, version: str, file: str) -> bytes:
        folder = self.root / check_name("model", model) / check_name("version", version)
        path = folder / check_name("file", file)
        try:
            # Links may point about inside the repository (mounted volumes do that), never out of it.
            if not path.resolve().is_relative_to(self.root.resolve()):
                raise RepositoryError(
                    model, version, f"{file} links out of the repository", "copy the file into it"
                )
            return path.read_bytes()
        except OSError as error:
            known = self.versions(model) if error.errno == 2 and not folder.is_dir() else []
            has = f" (there are: {', '.join(known)})" if known else ""
            raise RepositoryError(
                model, version, f"can't read {file} ({error.strerror}){has}", f"it belongs at {path}"
            ) from error
