"""releases.json of a model: the exact list of its versions, and the version that each label points to.

The signature of a version proves who made it. It does not prove that the version was not withdrawn, or that no newer version
was removed; this list does. Its `serial` increases with each change. A reader that remembers the serial (trust.py) so detects
an old list that replaced a newer one. The list is signed like a version whose only file is `releases.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.repository.errors import RepositoryError
from headrace.repository.names import check_name, version_key

VERSION_LIST = "releases.json"
MAX_BYTES = 16 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class VersionList:
    """`versions`: version → SHA-256 of its metadata.json's bytes; `labels`: label → version."""

    model: str
    serial: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def ordered(self) -> list[str]:
        """Versions, oldest first."""
        return sorted(self.versions, key=version_key)

    def with_version(self, version: str, sha256: str) -> VersionList:
        return self._changed(versions={**self.versions, version: sha256})

    def without_version(self, version: str) -> VersionList:
        return self._changed(versions={v: d for v, d in self.versions.items() if v != version})

    def with_label(self, label: str, version: str) -> VersionList:
        return self._changed(labels={**self.labels, label: version})

    def without_label(self, label: str) -> VersionList:
        return self._changed(labels={k: v for k, v in self.labels.items() if k != label})

    def _changed(self, **changes: Any) -> VersionList:
        return replace(self, serial=self.serial + 1, **changes)

    def content(self) -> bytes:
        """The bytes that are signed: canonical JSON."""
        document = {k: getattr(self, k) for k in self.__slots__}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def to_file(listing: VersionList, signature: bytes | None) -> bytes:
    """The content of releases.json: list and signature in one file, so that they change in one step."""
    kept = {
        "releases": json.loads(listing.content()),
        "signature": json.loads(signature) if signature else None,
    }
    return json.dumps(kept, indent=2, sort_keys=True).encode() + b"\n"


def parse(content: bytes, model: str) -> tuple[VersionList, bytes | None]:
    """The list and its signature, unverified. Raises RepositoryError."""
    try:
        document = json.loads(content)
        found, signature = document["releases"], document["signature"]
        listing = VersionList(
            str(found["model"]), found["serial"], _texts(found["versions"]), _texts(found["labels"])
        )
        if type(listing.serial) is not int or listing.serial < 0:
            raise ValueError("serial is no number")
        if not all(map(_SHA256.fullmatch, listing.versions.values())):
            raise ValueError("a digest is not 64 hexadecimal digits")
        for name in (*listing.versions, *listing.labels):
            check_name("version or label", name)
    except (ValueError, KeyError, TypeError, RecursionError, RepositoryError) as error:
        raise RepositoryError(
            model, "", f"{VERSION_LIST} can't be read: {error}", "restore it from a copy"
        ) from error
    if listing.model != model:
        problem = f"{VERSION_LIST} is that of model {listing.model!r}"
        raise RepositoryError(model, "", problem, "restore the right one from a copy")
    return listing, None if signature is None else json.dumps(signature).encode()


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("a mapping of texts is missing")
    return value
