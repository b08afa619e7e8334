"""The index of a model: the exact list of its versions, and the version that each label points to. A record of control.

The signature of a version proves who made it. It does not prove that the version was not withdrawn, or that no newer version
was removed; the index does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from headrace.catalog.access import Record, Records
from headrace.catalog.errors import RecordsError
from headrace.repository.errors import AbsentError, RepositoryError, UntrustedError
from headrace.repository.names import check_name, version_key

# Kind of the records; their names are those of the models.
MODEL = "model"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """`versions`: version → SHA-256 of its metadata.json's bytes, hexadecimal; `labels`: label → version.

    Raises RepositoryError: a name or digest can't be; a label points at no version, or is named like one.
    """

    model: str
    versions: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("model", self.model)
        for name in (*self.versions, *self.labels):
            check_name("version or label", name)
        for version, digest in self.versions.items():
            if not _SHA256.fullmatch(digest):
                raise self._wrong(version, "its digest is not 64 hexadecimal digits", "publish it anew")
        for label, version in self.labels.items():
            if label in self.versions:
                raise self._wrong(version, f"{label!r} is a version already", "choose another label")
            if version not in self.versions:
                raise self.absent(version)

    def ordered(self) -> list[str]:
        """Versions, oldest first."""
        return sorted(self.versions, key=version_key)

    def check(self, version: str, metadata: bytes) -> None:
        """Raises RepositoryError unless it has this version with exactly these bytes of metadata.json."""
        if version not in self.versions:
            raise self.absent(version)
        if self.versions[version] != hashlib.sha256(metadata).hexdigest():
            problem, remedy = "metadata.json is not the one that the index lists", "restore what was added"
            raise UntrustedError(
                self.model, version, problem, f"{remedy}, or add it anew: headrace models add"
            )

    def with_version(self, version: str, sha256: str) -> ModelIndex:
        """Raises RepositoryError: it is there already, with another digest."""
        if self.versions.get(version, sha256) != sha256:
            raise self._wrong(version, "is published already", "choose a new version")
        return replace(self, versions={**self.versions, version: sha256})

    def without_version(self, version: str) -> ModelIndex:
        """Raises RepositoryError: a label points at it."""
        for label in sorted(label for label, at in self.labels.items() if at == version):
            remedy = "point it elsewhere first: headrace models label"
            raise self._wrong(version, f"the label {label!r} points at it", remedy)
        return replace(self, versions={v: d for v, d in self.versions.items() if v != version})

    def with_label(self, label: str, version: str) -> ModelIndex:
        return replace(self, labels={**self.labels, label: version})

    def without_label(self, label: str) -> ModelIndex:
        """Raises RepositoryError: there is no such label."""
        if label not in self.labels:
            there = ", ".join(sorted(self.labels)) or "none"
            raise self._wrong("", f"there is no label {label!r} (there are: {there})", "name one of them")
        return replace(self, labels={k: v for k, v in self.labels.items() if k != label})

    def content(self) -> bytes:
        """What the record says: canonical JSON."""
        about = {"versions": dict(self.versions), "labels": dict(self.labels)}
        return json.dumps(about, sort_keys=True, separators=(",", ":")).encode()

    def absent(self, version: str) -> AbsentError:
        """It has no such version."""
        there = ", ".join(self.ordered()) or "none"
        problem = f"there is no such version in the index (there are: {there})"
        return AbsentError(self.model, version, problem, "it was removed, or never added; name another")

    def _wrong(self, version: str, problem: str, remedy: str) -> RepositoryError:
        return RepositoryError(self.model, version, problem, remedy)


Indexes = Callable[[str], ModelIndex | None]
"""The index of a model; None: it has none. Raises RepositoryError: it can't be read now."""


def index_of(model: str, content: bytes) -> ModelIndex:
    """Of a record's content. Raises RepositoryError."""
    try:
        found = json.loads(content)
        if found.keys() != {"versions", "labels"}:
            raise ValueError("it has `versions` and `labels`, and no more")
        return ModelIndex(model, _texts(found["versions"]), _texts(found["labels"]))
    except (ValueError, AttributeError, RecursionError) as error:
        problem = f"its index can't be read: {error}"
        raise RepositoryError(model, "", problem, "see: headrace audit verify") from error


def all_indexes(records: Records, unreadable: dict[str, str] | None = None) -> dict[str, ModelIndex]:
    """Model → its index, of all that control has. `unreadable`: takes those that can't be read, with what is wrong. Raises
    RecordsError; without `unreadable` RepositoryError."""
    found = {}
    for record in records.list(MODEL):
        if record.content:
            try:
                found[record.name] = index_of(record.name, record.content)
            except RepositoryError as error:
                if unreadable is None:
                    raise
                unreadable[record.name] = error.problem
    return found


def newest(records: Records, model: str) -> tuple[ModelIndex | None, int]:
    """The index (None: there is none), and the version of its record (0: it was never written). Raises as `all_indexes`."""
    record: Record | None = next(iter(records.read(MODEL, model)), None)
    if record is None:
        return None, 0
    return None if record.content is None else index_of(model, record.content), record.version


def recorded(records: Records) -> Indexes:
    """As control has them at each call."""

    def index(model: str) -> ModelIndex | None:
        try:
            return newest(records, model)[0]
        except RecordsError as error:
            problem = f"its index can't be read: {error}"
            raise RepositoryError(model, "", problem, "see: headrace status") from error

    return index


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("a mapping of texts is missing")
    return value
